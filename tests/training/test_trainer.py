"""The loop: it learns, repeats itself by seed, resumes bit for bit, and keeps what the recipe says."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from nephros import device
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset, Split
from nephros.errors import DivergedError, NephrosError
from nephros.models import build_network
from nephros.models.classifier import Classifier
from nephros.models.input_spec import InputSpec
from nephros.recipe import AugmentConfig, LRScheduleConfig, ModelConfig, OptimizerConfig, Recipe
from nephros.training import checkpoint
from nephros.training.ema import WeightEMA
from nephros.training.history import EpochMetrics, history_to_csv, read_history
from nephros.training.losses import build_loss
from nephros.training.optimizers import build_optimizer
from nephros.training.seeding import derive_seed
from nephros.training.trainer import Trainer
from tests.conftest import squares_dataset

CPU = torch.device("cpu")
POSTER = Recipe(
    name="small poster",
    model=ModelConfig(network="poster", base_channels=4, dropout=0.3),
    optimizer=OptimizerConfig(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    schedule=LRScheduleConfig(name="plateau", patience=0, factor=0.5),
    augment=AugmentConfig(flips="dihedral", shift=1, rotate=5),
    epochs=4,
    batch_size=50,
)


class Silent:
    """A listener that counts."""

    def __init__(self, stop_after: int = 0) -> None:
        self.images, self.rows, self.stop_after = 0, [], stop_after  # type: ignore[var-annotated]

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        self.images += n_images

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        self.rows = history
        if self.stop_after == epoch.epoch:
            raise KeyboardInterrupt


def _fit(recipe: Recipe, dataset: Dataset) -> Trainer:
    torch.manual_seed(recipe.seed)
    shape = InputSpec(dataset.channels, *dataset.image_size, dataset.n_classes)
    model = Classifier(build_network(recipe.model, shape), [0.5] * shape.channels, [0.5] * shape.channels)
    return Trainer(recipe, model, BatchLoader(dataset.train, CPU), BatchLoader(dataset.val, CPU), dataset.class_names)


def _run(recipe: Recipe, dataset: Dataset) -> Trainer:
    fit = _fit(recipe, dataset)
    fit.run(None, Silent())
    return fit


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_counts_every_image(tiny_dataset: Dataset) -> None:
    listener = Silent()
    fit = _fit(dataclasses.replace(POSTER, epochs=8), tiny_dataset)
    fit.run(None, listener)
    assert listener.images == 8 * len(tiny_dataset.train)
    assert listener.rows[-1].train_loss < 0.6 * listener.rows[0].train_loss
    assert listener.rows[-1].val_accuracy > 0.6


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema_decay": 0.9},
        {"checkpoint": "best", "metric": "val_loss"},
        {"optimizer": OptimizerConfig(name="adam", lr=1e-3)},
        {"optimizer": OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.1, decay_norm_and_bias=False)},
        {"schedule": LRScheduleConfig(name="linear", warmup=0.3)},
        {"amp": "bf16"},
        {
            "model": ModelConfig(network="equivariant", base_channels=8, depth=1),
            "optimizer": OptimizerConfig(
                name="muon", lr=0.02, momentum=0.9, weight_decay=5e-4, decay_norm_and_bias=False
            ),
            "augment": AugmentConfig(shift=2),
            "last_batch": "balanced",
        },
    ],
)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_ends_bit_for_bit_as_one_that_never_stopped(
    changes: dict[str, object], stop: int, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(POSTER, **changes)  # type: ignore[arg-type]
    whole = _run(recipe, tiny_dataset)
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        _fit(recipe, tiny_dataset).run(partial(checkpoint.save, file), Silent(stop_after=stop))
    torch.manual_seed(12345)  # whatever another process would have drawn
    resumed = _fit(recipe, tiny_dataset)
    resumed.load_state_dict(checkpoint.load(file))
    assert len(resumed.history) == stop
    resumed.run(partial(checkpoint.save, file), Silent())
    assert _same(resumed.model.state_dict(), whole.model.state_dict())
    assert _same(resumed.final_weights()[0], whole.final_weights()[0])
    assert resumed.final_weights()[1] == whole.final_weights()[1]
    timeless = [dataclasses.replace(row, seconds=0, images_per_second=0) for row in resumed.history]
    assert timeless == [dataclasses.replace(row, seconds=0, images_per_second=0) for row in whole.history]


def test_the_seed_decides(tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, epochs=2)
    first, again = _run(recipe, tiny_dataset), _run(recipe, tiny_dataset)
    other = _run(dataclasses.replace(recipe, seed=1), tiny_dataset)
    assert _same(first.model.state_dict(), again.model.state_dict())
    assert not _same(first.model.state_dict(), other.model.state_dict())


def test_chunks_train_to_the_same_weights(tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, epochs=2)
    resident = _run(recipe, tiny_dataset)
    chunked = _fit(recipe, tiny_dataset)
    chunked.train_batches = BatchLoader(tiny_dataset.train, CPU, max_resident_bytes=1)
    chunked.run(None, Silent())
    assert _same(resident.model.state_dict(), chunked.model.state_dict())


def test_best_keeps_the_best_epoch_and_early_stop_ends_the_run(tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, epochs=40, checkpoint="best", metric="val_loss", early_stopping_patience=2)
    fit = _run(recipe, tiny_dataset)
    losses = [row.val_loss for row in fit.history]
    best = int(np.argmin(losses)) + 1
    weights, epoch = fit.final_weights()
    assert epoch == best
    assert len(losses) < 40
    assert len(losses) == best + 2
    again = _fit(recipe, tiny_dataset)
    again.model.load_state_dict(weights)
    assert again._validate(best, 0.0, 0.0, 0.0, 1.0).val_loss == pytest.approx(losses[best - 1], abs=1e-6)


def test_last_keeps_the_last_epoch(tiny_dataset: Dataset) -> None:
    fit = _run(dataclasses.replace(POSTER, epochs=3), tiny_dataset)
    weights, epoch = fit.final_weights()
    assert epoch == 3
    assert _same(weights, fit.model.state_dict())


def test_the_short_last_batch_counts_by_its_images() -> None:
    dataset = squares_dataset(n=10, classes=2)
    still = OptimizerConfig(name="sgd", lr=1e-30)
    recipe = Recipe(
        model=ModelConfig(network="course", base_channels=4, depth=1), optimizer=still, batch_size=7, epochs=1
    )
    fit = _run(recipe, dataset)
    other = _run(dataclasses.replace(recipe, batch_size=10), dataset)
    assert fit.history[0].train_loss == pytest.approx(other.history[0].train_loss, abs=1e-6)


def test_a_loss_that_is_no_number_stops_the_run_in_plain_words(tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(
        POSTER,
        model=ModelConfig(network="course", base_channels=4, depth=1),
        optimizer=OptimizerConfig(name="sgd", lr=1e12),
    )
    with pytest.raises(DivergedError, match=r"epoch \d.*`optimizer\.lr`"):
        _run(recipe, tiny_dataset)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_follows_full_precision(amp: str, tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, model=dataclasses.replace(POSTER.model, dropout=0.0), epochs=2)
    full = _run(recipe, tiny_dataset)
    mixed = _run(dataclasses.replace(recipe, amp=amp), tiny_dataset)  # type: ignore[arg-type]
    assert mixed.amp_dtype in (torch.bfloat16, torch.float16)
    assert all(value.dtype != mixed.amp_dtype for value in mixed.model.state_dict().values())
    assert mixed.history[0].train_loss == pytest.approx(full.history[0].train_loss, rel=0.05)
    assert not _same(full.model.state_dict(), mixed.model.state_dict())
    assert mixed.grad_scaler.is_enabled() == (amp == "fp16")


def test_auto_is_full_precision_on_a_cpu(tiny_dataset: Dataset) -> None:
    assert _fit(dataclasses.replace(POSTER, amp="auto"), tiny_dataset).amp_dtype is None


@pytest.mark.parametrize(
    ("found", "gain", "expected"),
    [
        ({"avx512_bf16": True}, 1.7, torch.bfloat16),
        ({"avx512_bf16": True}, 0.5, None),
        ({"amx_bf16": True, "avx2": True}, 4.0, torch.bfloat16),
        ({"avx512_bf16": False, "avx2": True}, 1.7, None),
    ],
)
def test_native_is_bf16_on_a_cpu_that_is_faster_by_it(
    found: dict[str, bool],
    gain: float,
    expected: torch.dtype | None,
    tiny_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(device, "_bf16_speedup", lambda: gain)
    assert _fit(dataclasses.replace(POSTER, amp="native"), tiny_dataset).amp_dtype == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert _fit(dataclasses.replace(POSTER, amp="native"), tiny_dataset).amp_dtype is None


def test_what_bf16_gains_is_of_the_fastest_products_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [9.0, 0.1, 4.0, 1.0, 2.0, 1.5, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0]  # float32 and bf16 in turns
    readings = iter([reading for span in spans for reading in (0.0, span)])
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    assert device._bf16_speedup.__wrapped__() == 2.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_network_trains_as_the_plain_one(tiny_dataset: Dataset) -> None:
    recipe = Recipe(
        model=ModelConfig(network="course", base_channels=4, depth=1),
        optimizer=OptimizerConfig(lr=0.05),
        epochs=2,
        batch_size=60,
    )
    plain = _run(recipe, tiny_dataset)
    compiled = _run(dataclasses.replace(recipe, compile=True), tiny_dataset)
    assert compiled.history[-1].train_loss == pytest.approx(plain.history[-1].train_loss, rel=1e-3)
    assert set(compiled.final_weights()[0]) == set(plain.final_weights()[0])


def test_class_weights() -> None:
    counts = np.array([60, 30, 10])
    none, ratio, balanced = (
        build_loss(Recipe(class_weights=kind), counts, CPU).weight for kind in ("none", "max-ratio", "balanced")
    )
    assert none is None
    assert ratio is not None
    assert balanced is not None
    assert ratio.tolist() == pytest.approx([1, 2, 6])
    assert balanced.tolist() == pytest.approx([100 / 180, 100 / 90, 100 / 30])


def test_label_smoothing_is_torch_s() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    smooth = build_loss(Recipe(label_smoothing=0.1), np.ones(3, dtype=np.int64), CPU)(logits, labels)
    log_p = logits.log_softmax(1)
    by_hand = -(0.9 * log_p[torch.arange(6), labels] + 0.1 * log_p.mean(1)).mean()
    assert smooth.item() == pytest.approx(by_hand.item(), abs=1e-6)


def test_weight_decay_can_spare_biases_and_norms() -> None:
    network = build_network(ModelConfig(network="compact", base_channels=8), InputSpec(1, 28, 28, 4))
    bare = build_optimizer(OptimizerConfig(weight_decay=0.1, decay_norm_and_bias=False), network).param_groups
    assert [group["weight_decay"] for group in bare] == [0.1, 0.0]
    assert all(p.ndim == 1 for p in bare[1]["params"])
    count = sum(len(group["params"]) for group in bare)
    assert count == len(list(network.parameters()))
    assert len(build_optimizer(OptimizerConfig(weight_decay=0.1), network).param_groups) == 1


def test_the_average_is_exponential() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    average = WeightEMA(layer, 0.15)
    expected = 0.0
    for value, decay in ((1.0, 0.15), (3.0, 0.15)):
        torch.nn.init.constant_(layer.weight, value)
        average.update(layer)
        expected = decay * expected + (1 - decay) * value
    assert average.weights["weight"].item() == pytest.approx(expected)
    early = WeightEMA(layer, 0.999)
    torch.nn.init.constant_(layer.weight, 0.0)
    early.update(layer)
    assert early.weights["weight"].item() == pytest.approx(3.0 * 2 / 11)


def test_averaged_weights_are_what_is_judged_and_kept(tiny_dataset: Dataset) -> None:
    fit = _run(dataclasses.replace(POSTER, ema_decay=0.9, epochs=2), tiny_dataset)
    kept, _ = fit.final_weights()
    assert fit.ema is not None
    assert _same(kept, fit.ema.weights)
    assert not _same(kept, fit.model.state_dict())


def test_seeds_of_streams_differ() -> None:
    seeds = [derive_seed(*key) for key in itertools.product((0, 1), (0, 1, 11), ("order", "dropout"))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_history_goes_through_csv(tmp_path: Path) -> None:
    rows = [
        EpochMetrics(1, 0.1, 1.5, 0.3, 1.4, 0.35, 0.2, float("nan"), 2.0, 100.0),
        EpochMetrics(2, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 2.0, 3.0),
    ]
    path = tmp_path / "history.csv"
    path.write_text(history_to_csv(rows))
    again = read_history(path)
    assert again[1] == rows[1]
    assert str(again) == str(rows)
    path.write_text("epoch,lr\none,2\n")
    with pytest.raises(NephrosError, match="damaged"):
        read_history(path)


def test_better_and_worse() -> None:
    low = EpochMetrics(1, 0.1, 1, 0, 2.0, 0.5, 0.4, float("nan"), 1, 1)
    high = EpochMetrics(2, 0.1, 1, 0, 1.0, 0.6, 0.4, 0.8, 1, 1)
    assert high.is_better_than(low, "val_accuracy")
    assert high.is_better_than(low, "val_loss")
    assert not low.is_better_than(high, "val_loss")
    assert not high.is_better_than(low, "val_macro_f1")
    assert high.is_better_than(low, "val_auc")
    assert not low.is_better_than(high, "val_auc")


def test_a_damaged_checkpoint_is_named_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"rubbish")
    with pytest.raises(NephrosError, match=r"checkpoint\.pt is damaged"):
        checkpoint.load(path)
    torch.save({"code": Split}, path)
    with pytest.raises(NephrosError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_learns_too(tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, amp="auto", epochs=6)
    device = torch.device("cuda")
    model = Classifier(build_network(recipe.model, InputSpec(1, 28, 28, 4)), [0.5], [0.5])
    fit = Trainer(
        recipe,
        model,
        BatchLoader(tiny_dataset.train, device),
        BatchLoader(tiny_dataset.val, device),
        tiny_dataset.class_names,
    )
    fit.run(None, Silent())
    assert fit.history[-1].train_loss < fit.history[0].train_loss
