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
from nephros.data.batches import Batches
from nephros.data.dataset import Dataset, Split
from nephros.errors import Diverged, UserError
from nephros.models import build
from nephros.models.classifier import Classifier
from nephros.models.input_spec import Shape
from nephros.recipe import Recipe
from nephros.recipe_parts import Augment, Model, Optimizer, Schedule
from nephros.training import checkpoint
from nephros.training.history import Epoch, from_csv, to_csv
from nephros.training.parts import Average, loss_function, optimizer, seed_for
from nephros.training.trainer import Fit
from tests.conftest import made_up

CPU = torch.device("cpu")
POSTER = Recipe(
    name="small poster",
    model=Model(network="poster", features=4, dropout=0.3),
    optimizer=Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    schedule=Schedule(name="plateau", patience=0, factor=0.5),
    augment=Augment(flips="dihedral", shift=1, rotate=5),
    epochs=4,
    batch_size=50,
)


class Silent:
    """A listener that counts."""

    def __init__(self, stop_after: int = 0) -> None:
        self.images, self.rows, self.stop_after = 0, [], stop_after  # type: ignore[var-annotated]

    def step(self, epoch: int, images: int, loss: Tensor) -> None:
        self.images += images

    def epoch(self, row: Epoch, rows: list[Epoch]) -> None:
        self.rows = rows
        if self.stop_after == row.epoch:
            raise KeyboardInterrupt


def _fit(recipe: Recipe, dataset: Dataset) -> Fit:
    torch.manual_seed(recipe.seed)
    shape = Shape(dataset.channels, *dataset.size, dataset.classes)
    model = Classifier(build(recipe.model, shape), [0.5] * shape.channels, [0.5] * shape.channels)
    return Fit(recipe, model, Batches(dataset.train, CPU), Batches(dataset.val, CPU), dataset.class_names)


def _run(recipe: Recipe, dataset: Dataset) -> Fit:
    fit = _fit(recipe, dataset)
    fit.run(None, Silent())
    return fit


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_counts_every_image(tiny: Dataset) -> None:
    listener = Silent()
    fit = _fit(dataclasses.replace(POSTER, epochs=8), tiny)
    fit.run(None, listener)
    assert listener.images == 8 * len(tiny.train)
    assert listener.rows[-1].train_loss < 0.6 * listener.rows[0].train_loss
    assert listener.rows[-1].val_accuracy > 0.6


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.9},
        {"checkpoint": "best", "metric": "val_loss"},
        {"optimizer": Optimizer(name="adam", lr=1e-3)},
        {"optimizer": Optimizer(name="adamw", lr=1e-3, weight_decay=0.1, decay_all=False)},
        {"schedule": Schedule(name="onecycle", warmup=0.3)},
        {"amp": "bf16"},
        {
            "model": Model(network="equivariant", features=8, depth=1),
            "optimizer": Optimizer(name="muon", lr=0.02, momentum=0.9, weight_decay=5e-4, decay_all=False),
            "augment": Augment(shift=2),
            "last_batch": "even",
        },
    ],
)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_ends_bit_for_bit_as_one_that_never_stopped(
    changes: dict[str, object], stop: int, tiny: Dataset, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(POSTER, **changes)  # type: ignore[arg-type]
    whole = _run(recipe, tiny)
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        _fit(recipe, tiny).run(partial(checkpoint.save, file), Silent(stop_after=stop))
    torch.manual_seed(12345)  # whatever another process would have drawn
    resumed = _fit(recipe, tiny)
    resumed.load(checkpoint.load(file))
    assert len(resumed.history) == stop
    resumed.run(partial(checkpoint.save, file), Silent())
    assert _same(resumed.model.state_dict(), whole.model.state_dict())
    assert _same(resumed.final_weights()[0], whole.final_weights()[0])
    assert resumed.final_weights()[1] == whole.final_weights()[1]
    timeless = [dataclasses.replace(row, seconds=0, images_per_second=0) for row in resumed.history]
    assert timeless == [dataclasses.replace(row, seconds=0, images_per_second=0) for row in whole.history]


def test_the_seed_decides(tiny: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, epochs=2)
    first, again = _run(recipe, tiny), _run(recipe, tiny)
    other = _run(dataclasses.replace(recipe, seed=1), tiny)
    assert _same(first.model.state_dict(), again.model.state_dict())
    assert not _same(first.model.state_dict(), other.model.state_dict())


def test_chunks_train_to_the_same_weights(tiny: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, epochs=2)
    resident = _run(recipe, tiny)
    chunked = _fit(recipe, tiny)
    chunked.train_batches = Batches(tiny.train, CPU, resident_limit=1)
    chunked.run(None, Silent())
    assert _same(resident.model.state_dict(), chunked.model.state_dict())


def test_best_keeps_the_best_epoch_and_early_stop_ends_the_run(tiny: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, epochs=40, checkpoint="best", metric="val_loss", early_stop=2)
    fit = _run(recipe, tiny)
    losses = [row.val_loss for row in fit.history]
    best = int(np.argmin(losses)) + 1
    weights, epoch = fit.final_weights()
    assert epoch == best
    assert len(losses) < 40
    assert len(losses) == best + 2
    again = _fit(recipe, tiny)
    again.model.load_state_dict(weights)
    assert again._judged(best, 0.0, 0.0, 0.0, 1.0).val_loss == pytest.approx(losses[best - 1], abs=1e-6)


def test_last_keeps_the_last_epoch(tiny: Dataset) -> None:
    fit = _run(dataclasses.replace(POSTER, epochs=3), tiny)
    weights, epoch = fit.final_weights()
    assert epoch == 3
    assert _same(weights, fit.model.state_dict())


def test_the_short_last_batch_counts_by_its_images() -> None:
    dataset = made_up(n=10, classes=2)
    still = Optimizer(name="sgd", lr=1e-30)
    recipe = Recipe(model=Model(network="course", features=4, depth=1), optimizer=still, batch_size=7, epochs=1)
    fit = _run(recipe, dataset)
    other = _run(dataclasses.replace(recipe, batch_size=10), dataset)
    assert fit.history[0].train_loss == pytest.approx(other.history[0].train_loss, abs=1e-6)


def test_a_loss_that_is_no_number_stops_the_run_in_plain_words(tiny: Dataset) -> None:
    recipe = dataclasses.replace(
        POSTER, model=Model(network="course", features=4, depth=1), optimizer=Optimizer(name="sgd", lr=1e12)
    )
    with pytest.raises(Diverged, match=r"epoch \d.*lower --optimizer\.lr"):
        _run(recipe, tiny)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_follows_full_precision(amp: str, tiny: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, model=dataclasses.replace(POSTER.model, dropout=0.0), epochs=2)
    full = _run(recipe, tiny)
    mixed = _run(dataclasses.replace(recipe, amp=amp), tiny)  # type: ignore[arg-type]
    assert mixed.dtype in (torch.bfloat16, torch.float16)
    assert all(value.dtype != mixed.dtype for value in mixed.model.state_dict().values())
    assert mixed.history[0].train_loss == pytest.approx(full.history[0].train_loss, rel=0.05)
    assert not _same(full.model.state_dict(), mixed.model.state_dict())
    assert mixed.scaler.is_enabled() == (amp == "fp16")


def test_auto_is_full_precision_on_a_cpu(tiny: Dataset) -> None:
    assert _fit(dataclasses.replace(POSTER, amp="auto"), tiny).dtype is None


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
    found: dict[str, bool], gain: float, expected: torch.dtype | None, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(device, "_gain_of_bf16", lambda: gain)
    assert _fit(dataclasses.replace(POSTER, amp="native"), tiny).dtype == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert _fit(dataclasses.replace(POSTER, amp="native"), tiny).dtype is None


def test_what_bf16_gains_is_of_the_fastest_products_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [9.0, 0.1, 4.0, 1.0, 2.0, 1.5, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0]  # float32 and bf16 in turns
    readings = iter([reading for span in spans for reading in (0.0, span)])
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    assert device._gain_of_bf16.__wrapped__() == 2.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_network_trains_as_the_plain_one(tiny: Dataset) -> None:
    recipe = Recipe(
        model=Model(network="course", features=4, depth=1), optimizer=Optimizer(lr=0.05), epochs=2, batch_size=60
    )
    plain = _run(recipe, tiny)
    compiled = _run(dataclasses.replace(recipe, compile=True), tiny)
    assert compiled.history[-1].train_loss == pytest.approx(plain.history[-1].train_loss, rel=1e-3)
    assert set(compiled.final_weights()[0]) == set(plain.final_weights()[0])


def test_class_weights() -> None:
    counts = np.array([60, 30, 10])
    none, ratio, balanced = (
        loss_function(Recipe(class_weights=kind), counts, CPU).weight for kind in ("none", "max-ratio", "balanced")
    )
    assert none is None
    assert ratio is not None
    assert balanced is not None
    assert ratio.tolist() == pytest.approx([1, 2, 6])
    assert balanced.tolist() == pytest.approx([100 / 180, 100 / 90, 100 / 30])


def test_label_smoothing_is_torch_s() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    smooth = loss_function(Recipe(label_smoothing=0.1), np.ones(3, dtype=np.int64), CPU)(logits, labels)
    log_p = logits.log_softmax(1)
    by_hand = -(0.9 * log_p[torch.arange(6), labels] + 0.1 * log_p.mean(1)).mean()
    assert smooth.item() == pytest.approx(by_hand.item(), abs=1e-6)


def test_weight_decay_can_spare_biases_and_norms() -> None:
    network = build(Model(network="compact", features=8), Shape(1, 28, 28, 4))
    bare = optimizer(Optimizer(weight_decay=0.1, decay_all=False), network).param_groups
    assert [group["weight_decay"] for group in bare] == [0.1, 0.0]
    assert all(p.ndim == 1 for p in bare[1]["params"])
    count = sum(len(group["params"]) for group in bare)
    assert count == len(list(network.parameters()))
    assert len(optimizer(Optimizer(weight_decay=0.1), network).param_groups) == 1


def test_the_average_is_exponential() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    average = Average(layer, 0.15)
    expected = 0.0
    for value, decay in ((1.0, 0.15), (3.0, 0.15)):
        torch.nn.init.constant_(layer.weight, value)
        average.update(layer)
        expected = decay * expected + (1 - decay) * value
    assert average.values["weight"].item() == pytest.approx(expected)
    early = Average(layer, 0.999)
    torch.nn.init.constant_(layer.weight, 0.0)
    early.update(layer)
    assert early.values["weight"].item() == pytest.approx(3.0 * 2 / 11)


def test_averaged_weights_are_what_is_judged_and_kept(tiny: Dataset) -> None:
    fit = _run(dataclasses.replace(POSTER, ema=0.9, epochs=2), tiny)
    kept, _ = fit.final_weights()
    assert fit.average is not None
    assert _same(kept, fit.average.values)
    assert not _same(kept, fit.model.state_dict())


def test_seeds_of_streams_differ() -> None:
    seeds = [seed_for(*key) for key in itertools.product((0, 1), (0, 1, 11), ("order", "dropout"))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_history_goes_through_csv(tmp_path: Path) -> None:
    rows = [
        Epoch(1, 0.1, 1.5, 0.3, 1.4, 0.35, 0.2, float("nan"), 2.0, 100.0),
        Epoch(2, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 2.0, 3.0),
    ]
    path = tmp_path / "history.csv"
    path.write_text(to_csv(rows))
    again = from_csv(path)
    assert again[1] == rows[1]
    assert str(again) == str(rows)
    path.write_text("epoch,lr\none,2\n")
    with pytest.raises(UserError, match="damaged"):
        from_csv(path)


def test_better_and_worse() -> None:
    low = Epoch(1, 0.1, 1, 0, 2.0, 0.5, 0.4, float("nan"), 1, 1)
    high = Epoch(2, 0.1, 1, 0, 1.0, 0.6, 0.4, 0.8, 1, 1)
    assert high.better_than(low, "val_accuracy")
    assert high.better_than(low, "val_loss")
    assert not low.better_than(high, "val_loss")
    assert not high.better_than(low, "val_macro_f1")
    assert high.better_than(low, "val_auc")
    assert not low.better_than(high, "val_auc")


def test_a_damaged_checkpoint_is_named_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"rubbish")
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged"):
        checkpoint.load(path)
    torch.save({"code": Split}, path)
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_learns_too(tiny: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, amp="auto", epochs=6)
    device = torch.device("cuda")
    model = Classifier(build(recipe.model, Shape(1, 28, 28, 4)), [0.5], [0.5])
    fit = Fit(recipe, model, Batches(tiny.train, device), Batches(tiny.val, device), tiny.class_names)
    fit.run(None, Silent())
    assert fit.history[-1].train_loss < fit.history[0].train_loss
