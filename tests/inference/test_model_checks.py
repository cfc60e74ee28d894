"""What is checked when a model is opened: finite weights and outputs, digests, shapes and counts, and class names."""

from __future__ import annotations

import contextlib
import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

import nephros
from nephros.cli import main
from nephros.errors import DivergedError, FileError, IncompatibleError, NephrosError
from nephros.exporters.export import export
from nephros.exporters.loading import load_classifier
from nephros.exporters.onnx_export import embed_card
from nephros.inference.bundled import bundled_file
from nephros.inference.card_json import card_from_json
from nephros.inference.classify import NOT_FINITE
from nephros.inference.model_card import CARD_METADATA_KEY
from nephros.inference.onnx_file import DIGEST_METADATA_KEY, graph_sha256, has_finite_weights
from nephros.inference.predictor import Predictor
from nephros.models.serialization import load_model
from nephros.runs import RunFolder
from tests.conftest import square_images


def read_card(model: Any) -> dict[str, Any]:
    return dict(json.loads({entry.key: entry.value for entry in model.metadata_props}[CARD_METADATA_KEY]))


def weights_of(model: Any) -> Any:
    """Return the largest floating-point weight."""
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    return max(floats, key=lambda tensor: int(np.prod(tensor.dims)))


def set_weight(model: Any, value: float) -> None:
    tensor = weights_of(model)
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[array.size // 2] = value
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_weight_that_is_no_number_is_an_error_at_opening(
    value: float, exported_model: Path, tmp_path: Path
) -> None:
    model = onnx.load(exported_model)
    set_weight(model, value)
    path = tmp_path / "model.onnx"
    path.write_bytes(embed_card(model.SerializeToString(), json.dumps(read_card(model)), CARD_METADATA_KEY))
    with pytest.raises(DivergedError, match=r"model\.onnx"):
        load_classifier(path)


def test_weights_in_other_fields_and_types_are_checked_too() -> None:
    def model_of(tensor: Any) -> bytes:
        return bytes(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])).SerializeToString())

    for data_type, dtype in ((onnx.TensorProto.FLOAT, "f4"), (onnx.TensorProto.DOUBLE, "f8")):
        for raw in (False, True):
            for value, is_finite in ((1.0, True), (np.nan, False), (np.inf, False)):
                values = np.array([0, value, 2], dtype)
                vals: Any = values.tobytes() if raw else values
                tensor = onnx.helper.make_tensor("w", data_type, [3], vals, raw=raw)
                assert has_finite_weights(model_of(tensor)) == is_finite
    assert has_finite_weights(model_of(onnx.helper.make_tensor("bound", onnx.TensorProto.FLOAT, [], [np.inf])))
    with pytest.raises(ValueError, match="cut short"):
        graph_sha256(b"\x3a\xff\x01a")


def test_a_changed_weight_or_node_contradicts_the_digest(exported_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    changes: list[Callable[[Any], None]] = [
        lambda model: set_weight(model, 0.125),
        lambda model: setattr(model.graph.node[-1], "name", "other"),
        lambda model: setattr(model.opset_import[0], "version", model.opset_import[0].version + 1),
    ]
    for change in changes:
        model = onnx.load(exported_model)
        change(model)
        onnx.save(model, path)
        with pytest.raises(FileError):
            load_classifier(path)
    model = onnx.load(exported_model)
    onnx.save(onnx.load(exported_model), path)  # written again, but the same
    assert load_classifier(path).card == Predictor.from_onnx(exported_model).card


@pytest.mark.parametrize("change", ["digest", "nan", "infinity"])
def test_changed_tensors_of_a_safetensors_file_are_refused(
    change: str, safetensors_model: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(safetensors_model, tmp_path / "model.safetensors"))
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["head.weight"][0, 0] = {"digest": 0.125, "nan": torch.nan, "infinity": torch.inf}[change]
    if change != "digest":
        header = json.loads(metadata["nephros"])
        del header["tensors_sha256"]
        metadata = {"nephros": json.dumps(header)}
    save_file(tensors, path, metadata)
    with pytest.raises(FileError if change == "digest" else DivergedError):
        load_classifier(path)


def test_the_bundled_model_states_its_digests() -> None:
    path = bundled_file("model.onnx")
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert metadata[DIGEST_METADATA_KEY] == graph_sha256(path.read_bytes())
    with safe_open(bundled_file("model.safetensors"), framework="np") as file:
        assert "tensors_sha256" in json.loads(file.metadata()["nephros"])


def test_a_run_whose_weights_are_no_numbers_is_an_error(run_folder: RunFolder, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run_folder.root, tmp_path / "run", ignore=shutil.ignore_patterns("export")))
    path = copied / "weights.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    next(tensor for tensor in tensors.values() if tensor.ndim > 1).view(-1)[0] = torch.nan
    save_file(tensors, path, metadata)
    for open_model in (load_classifier, export):
        with pytest.raises(DivergedError):
            open_model(copied)
    with pytest.raises(DivergedError):
        load_model(path)


CARD_CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a class too many": lambda card: card["class_names"].append("one more"),
    "a class too few": lambda card: card["class_names"].pop(),
    "another size": lambda card: card["input"].update(height=32, width=32),
    "other channels": lambda card: card["input"].update(channels=3),
    "another output": lambda card: card["interface"]["outputs"].update(more=["n", 1]),
    "other features": lambda card: card["interface"]["outputs"].update(features=["n", 7]),
    "no detector ranges": lambda card: card["ood_detector"].pop("ranges"),
    "names of text": lambda card: card.update(class_names="abcd"),
    "a repeated name": lambda card: card["class_names"].__setitem__(1, card["class_names"][0]),
    "a repeated name with a space": lambda card: card["class_names"].__setitem__(1, card["class_names"][0] + " "),
    "an empty name": lambda card: card["class_names"].__setitem__(1, ""),
    "an invisible name": lambda card: card["class_names"].__setitem__(1, "\u200b "),
    "a name that is no text": lambda card: card["class_names"].__setitem__(1, 7),
    "a quantile of NaN": lambda card: card["conformal"]["quantiles"].__setitem__(3, float("nan")),
    "a range of NaN": lambda card: next(iter(card["ood_detector"]["ranges"].values())).update(low=float("nan")),
}


@pytest.mark.parametrize("case", CARD_CHANGES)
def test_a_card_that_contradicts_its_graph_or_itself_is_refused_at_opening(
    case: str, exported_model: Path, tmp_path: Path
) -> None:
    model = onnx.load(exported_model)
    card = read_card(model)
    CARD_CHANGES[case](card)
    path = tmp_path / "model.onnx"
    path.write_bytes(embed_card(model.SerializeToString(), json.dumps(card), CARD_METADATA_KEY))
    with pytest.raises((FileError, IncompatibleError)) as caught:
        load_classifier(path)
    assert "\n" not in str(caught.value)


CLAIMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pixels": lambda card: card["input"].update(height=100_000, width=100_000),
    "one long side": lambda card: card["input"].update(width=10**15),
    "channels": lambda card: card["input"].update(channels=10**9),
    "classes": lambda card: card.update(class_names=[f"class {i}" for i in range(100_000)]),
    "a long text": lambda card: card.update(recipe="x" * (17 << 20)),
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("case", CLAIMS)
def test_claims_of_a_card_are_refused_before_they_cost_memory(case: str, exported_model: Path, tmp_path: Path) -> None:
    model = onnx.load(exported_model)
    card = read_card(model)
    CLAIMS[case](card)
    path = tmp_path / "model.onnx"
    path.write_bytes(embed_card(model.SerializeToString(), json.dumps(card), CARD_METADATA_KEY))
    tracemalloc.start()
    with pytest.raises(FileError) as caught:
        load_classifier(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.path == path
    assert peak < 300 << 20


def test_a_card_nested_deeply_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        card_from_json("[" * 100_000, tmp_path / "model.onnx")


HEADER_CLAIMS: dict[str, dict[str, Any]] = {
    "hidden layers": {"model": {"network": "course", "hidden": [200_000, 200_000]}},
    "many hidden layers": {"model": {"network": "course", "hidden": [1] * 200_000}},
    "depth": {"model": {"depth": 10**9}},
    "channels of layers": {"model": {"base_channels": 10**7}},
    "classes": {"input_spec": {"n_classes": 10**9}},
    "channels": {"input_spec": {"channels": 10**9}},
    "pixels of a dense layer": {"model": {"network": "poster"}, "input_spec": {"height": 100_000, "width": 100_000}},
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", HEADER_CLAIMS)
@pytest.mark.parametrize("kind", ["export", "weights"])
def test_claims_of_a_header_are_compared_with_the_tensors_first(
    case: str, kind: str, run_folder: RunFolder, safetensors_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    shutil.copy(safetensors_model if kind == "export" else run_folder.file("weights.safetensors"), path)
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["nephros"])
    for key, changes in HEADER_CLAIMS[case].items():
        header[key].update(changes)
    save_file(tensors, path, {"nephros": json.dumps(header)})
    allocated: list[int] = []
    with _count_allocations(allocated), pytest.raises(FileError) as caught:
        load_classifier(path) if kind == "export" else load_model(path)
    assert caught.value.path == path
    assert sum(allocated) < 40 * sum(tensor.numel() for tensor in tensors.values())


@contextlib.contextmanager
def _count_allocations(sizes: list[int]) -> Iterator[None]:
    """Append the number of values of each tensor that torch makes."""

    class Counter(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func in (torch.empty, torch.zeros, torch.ones):
                sizes.append(result.numel())
            return result

    with Counter():
        yield


@pytest.mark.parametrize("name", ["probabilities", "features", "class_activation_maps"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_whose_outputs_are_no_numbers_get_an_error_and_the_others_an_answer(
    name: str, value: float, predictor: Predictor, tmp_path: Path
) -> None:
    def forward(cells: Any) -> dict[str, Any]:
        outputs = {key: output.copy() for key, output in predictor._forward_fn(cells).items()}
        outputs[name][cells.reshape(len(cells), -1)[:, 0] == 255] = value
        return outputs

    cells = square_images(3, 4, 0)[0].copy()
    cells[:, 0, 0] = (0, 255, 0)
    for i, cell in enumerate(cells):
        Image.fromarray(cell).save(tmp_path / f"{i}.png")
    predictions = nephros.predict(tmp_path, Predictor(forward, predictor.card))
    assert predictions.errors == {1: NOT_FINITE}
    assert [row.label is None for row in predictions.rows()] == [False, True, False]


def test_the_command_ends_with_a_sentence(
    exported_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(exported_model)
    set_weight(model, np.nan)
    path, image = tmp_path / "model.onnx", tmp_path / "0.png"
    onnx.save(model, path)
    Image.fromarray(square_images(1, 4, 0)[0][0]).save(image)
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(image), "--model", str(path)])
    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (2, "")
    assert len(captured.err.strip().splitlines()) == 1


def test_outputs_that_are_no_numbers_are_an_error_at_opening(predictor: Predictor) -> None:
    def forward(cells: Any) -> dict[str, Any]:
        return {**predictor._forward_fn(cells), "feature_distance": np.full(len(cells), np.nan, np.float32)}

    with pytest.raises(DivergedError):
        Predictor(forward, predictor.card).checked("model")
    with pytest.raises(NephrosError):
        Predictor(lambda _cells: {}, predictor.card).checked("model")
