"""Model files that are no such thing, or whose card and network disagree: refused at opening, in one sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from nephros.errors import DivergedError, FileError, IncompatibleError
from nephros.exporters.export import export
from nephros.exporters.loading import load_classifier
from nephros.exporters.onnx_export import embed_card
from nephros.exporters.pretrained import open_pretrained
from nephros.inference.bundled import bundled_file
from nephros.inference.model_card import CARD_METADATA_KEY
from nephros.models.serialization import tensors_sha256
from nephros.runs import RunFolder
from tests.command_line import Capture, run_cli
from tests.conftest import square_images

Card = dict[str, Any]
Edit = Callable[[Any], Any]


def read_card(model: Any) -> Card:
    return dict(json.loads({entry.key: entry.value for entry in model.metadata_props}[CARD_METADATA_KEY]))


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    path = tmp_path / "cell.png"
    Image.fromarray(square_images(1, 4, 0)[0][0]).save(path)
    return path


def assert_refused(model: Path, cell: Path, capsys: Capture) -> None:
    status, out, err = run_cli(["predict", str(cell), "--model", str(model)], capsys)
    assert (status, out) == (2, ""), err
    assert err.startswith("nephros: ")
    assert len(err.strip().splitlines()) == 1, err
    assert str(model) in err


CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "text": b"model",
    "JSON": b'{"format": "nephros-card-2"}',
    "zeros": bytes(1000),
    "a zip": b"PK\x03\x04" + bytes(100),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a header of 2^60 bytes": (1 << 60).to_bytes(8, "little") + b"{}",
    "every byte": bytes(range(256)) * 8,
    "a deep message": b"\x3a\x7f" * 5000,
}


@pytest.mark.parametrize("suffix", ["onnx", "safetensors", "pt"])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_file_that_is_no_model_is_named(
    content: bytes, suffix: str, cell: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(content)
    assert_refused(path, cell, capsys)


def test_what_is_no_file_and_files_of_the_other_format_are_named(
    exported_model: Path, cell: Path, tmp_path: Path, capsys: Capture
) -> None:
    paths = [tmp_path / name for name in ("folder.onnx", "pipe.onnx", "loop.onnx", "weights.onnx", "graph.safetensors")]
    folder, pipe, loop, weights, graph = paths
    folder.mkdir()
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    shutil.copy(bundled_file("model.safetensors"), weights)
    shutil.copy(exported_model, graph)
    for path in paths:
        assert_refused(path, cell, capsys)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.9999])
def test_a_model_cut_short_is_named(
    share: float, exported_model: Path, cell: Path, tmp_path: Path, capsys: Capture
) -> None:
    for source, name in ((exported_model, "model.onnx"), (bundled_file("model.safetensors"), "model.safetensors")):
        content = source.read_bytes()
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        assert_refused(tmp_path / name, cell, capsys)


def first_range(card: Card) -> dict[str, Any]:
    brightness: dict[str, Any] = card["ood_detector"]["ranges"]["brightness"]
    return brightness


CARD_EDITS: dict[str, Edit] = {
    "another format": lambda card: card.update(format="nephros-card-9"),
    "no class names": lambda card: card.pop("class_names"),
    "class names of nothing": lambda card: card.update(class_names=None),
    "class names of a mapping": lambda card: card.update(class_names={"a": 1, "b": 2}),
    "one class": lambda card: card.update(class_names=["cell"]),
    "half a surrogate pair": lambda card: card["class_names"].__setitem__(0, "\ud83d"),
    "a number for a name": lambda card: card["class_names"].__setitem__(0, 7),
    "a list for a name": lambda card: card["class_names"].__setitem__(0, ["a"]),
    "no input": lambda card: card.pop("input"),
    "an input of a list": lambda card: card.update(input=[28, 28]),
    "a height of text": lambda card: card["input"].update(height="28"),
    "a height of a fraction": lambda card: card["input"].update(height=28.5),
    "a height of true": lambda card: card["input"].update(height=True),
    "a height of 0": lambda card: card["input"].update(height=0),
    "a width below 0": lambda card: card["input"].update(width=-28),
    "a width of 30 digits": lambda card: card["input"].update(width=10**30),
    "four channels": lambda card: card["input"].update(channels=4),
    "cells of floats": lambda card: card["input"].update(dtype="float32"),
    "no calibration": lambda card: card.pop("calibration"),
    "a temperature of 0": lambda card: card["calibration"].update(temperature=0),
    "a temperature below 0": lambda card: card["calibration"].update(temperature=-1.5),
    "a temperature of NaN": lambda card: card["calibration"].update(temperature=float("nan")),
    "a temperature of infinity": lambda card: card["calibration"].update(temperature=float("inf")),
    "a temperature of text": lambda card: card["calibration"].update(temperature="1"),
    "a temperature of 10^6": lambda card: card["calibration"].update(temperature=1e6),
    "no temperature": lambda card: card["calibration"].pop("temperature"),
    "no quantiles": lambda card: card["conformal"].pop("quantiles"),
    "quantiles of text": lambda card: card["conformal"].update(quantiles="0.5"),
    "quantiles that fall": lambda card: card["conformal"]["quantiles"].reverse(),
    "a quantile too few": lambda card: card["conformal"]["quantiles"].pop(),
    "a quantile of text": lambda card: card["conformal"]["quantiles"].__setitem__(5, "0.5"),
    "a quantile of 2": lambda card: card["conformal"]["quantiles"].__setitem__(-1, 2.0),
    "a detector of text": lambda card: card.update(ood_detector="none"),
    "no detector": lambda card: card.pop("ood_detector"),
    "no structure": lambda card: card["ood_detector"].pop("structure"),
    "a structure without a threshold": lambda card: card["ood_detector"]["structure"].pop("threshold"),
    "a structure of one mean": lambda card: card["ood_detector"]["structure"].update(mean=[0.5]),
    "a structure of 20 means": lambda card: card["ood_detector"]["structure"]["mean"].pop(),
    "a ragged covariance": lambda card: card["ood_detector"]["structure"]["covariance"][3].pop(),
    "a covariance of zeros": lambda card: card["ood_detector"]["structure"].update(covariance=[[0.0] * 21] * 21),
    "a covariance of text": lambda card: card["ood_detector"]["structure"]["covariance"].__setitem__(0, "x" * 21),
    "a threshold below 0": lambda card: card["ood_detector"]["structure"].update(threshold=-1),
    "a distance without a threshold": lambda card: card["ood_detector"]["feature_distance"].pop("threshold"),
    "a threshold of text": lambda card: card["ood_detector"]["feature_distance"].update(threshold="9"),
    "no distance": lambda card: card["ood_detector"].update(feature_distance=None),
    "a range missing": lambda card: card["ood_detector"]["ranges"].pop("sharpness"),
    "a range too many": lambda card: card["ood_detector"]["ranges"].update(color=first_range(card)),
    "a range without an end": lambda card: first_range(card).pop("high"),
    "an empty range": lambda card: first_range(card).update(low=9.0, high=1.0),
    "a range of a list": lambda card: card["ood_detector"]["ranges"].update(brightness=[0, 255]),
    "an infinite range": lambda card: first_range(card).update(high=float("inf")),
    "no network": lambda card: card.pop("network"),
    "three views": lambda card: card["network"].update(tta_views=3),
    "views of text": lambda card: card["network"].update(tta_views="1"),
    "four bits": lambda card: card["network"].update(precision="int4"),
    "another accuracy": lambda card: card.update(test_accuracy=0.999),
    "an accuracy of 7": lambda card: card["validation"].update(accuracy=7),
    "an accuracy of text": lambda card: card["validation"].update(accuracy="good"),
    "no validation": lambda card: card.pop("validation"),
    "data of text": lambda card: card.update(data="cells"),
    "no title": lambda card: card["data"].pop("title"),
    "limitations of text": lambda card: card.update(limitations="none"),
    "a license of a list": lambda card: card.update(license=["MIT"]),
    "another input": lambda card: card["interface"]["inputs"].update(cells=["n", 1, 56, 56]),
    "two inputs": lambda card: card["interface"]["inputs"].update(more=["n"]),
    "another output": lambda card: card["interface"]["outputs"].update(probabilities=["n", 9]),
    "an output missing": lambda card: card["interface"]["outputs"].pop("features"),
    "an interface of text": lambda card: card.update(interface="onnx"),
    "an output of text": lambda card: card["interface"]["outputs"].update(features="n"),
}


def write_onnx(path: Path, model: Any, card: str) -> Path:
    path.write_bytes(embed_card(model.SerializeToString(), card, CARD_METADATA_KEY))
    return path


@pytest.mark.sampled(6)
@pytest.mark.parametrize("edit", CARD_EDITS.values(), ids=CARD_EDITS)
def test_an_edited_card_is_refused(
    edit: Edit, exported_model: Path, cell: Path, tmp_path: Path, capsys: Capture
) -> None:
    model = onnx.load(exported_model)
    card = read_card(model)
    edit(card)
    path = write_onnx(tmp_path / "model.onnx", model, json.dumps(card))
    assert_refused(path, cell, capsys)


@pytest.mark.parametrize(
    "text", ["", "card", "[]", "null", "[" * 100_000, '{"a":' * 100_000, "9" * 5000, '{"format": "a", "format": "b"}']
)
def test_a_card_that_is_no_card_is_refused(
    text: str, exported_model: Path, cell: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = write_onnx(tmp_path / "model.onnx", onnx.load(exported_model), text)
    assert_refused(path, cell, capsys)


def rename(graph: Any, old: str, new: str) -> None:
    """Rename a value everywhere in a graph."""
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
    for value in (*graph.input, *graph.output):
        if value.name == old:
            value.name = new


def output_of(graph: Any, name: str) -> Any:
    return next(output for output in graph.output if output.name == name)


def insert_before_output(
    graph: Any, name: str, operator: str, *, inputs: tuple[str, ...] = (), **attributes: Any
) -> None:
    """Send an output through one more operator."""
    rename(graph, name, f"{name}_before")
    output_of(graph, f"{name}_before").name = name
    graph.node.append(helper.make_node(operator, [f"{name}_before", *inputs], [name], **attributes))


def constant(graph: Any, name: str, array: Any) -> str:
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return name


def clear_shape(graph: Any, name: str) -> None:
    del output_of(graph, name).type.tensor_type.shape.dim[:]
    output_of(graph, name).type.tensor_type.ClearField("shape")


def to_logits(graph: Any) -> None:
    insert_before_output(graph, "probabilities", "Log")


def to_double(graph: Any) -> None:
    insert_before_output(graph, "probabilities", "Add", inputs=("probabilities_before",))


def drop_a_class(graph: Any) -> None:
    names = [constant(graph, name, np.array([value])) for name, value in (("s", 0), ("e", 3), ("a", 1))]
    insert_before_output(graph, "probabilities", "Slice", inputs=tuple(names))
    clear_shape(graph, "probabilities")


def to_one_row(graph: Any) -> None:
    insert_before_output(
        graph, "probabilities", "ReduceMean", inputs=(constant(graph, "axes", np.array([0])),), keepdims=1
    )
    clear_shape(graph, "probabilities")


def flatten_features(graph: Any) -> None:
    insert_before_output(graph, "features", "Reshape", inputs=(constant(graph, "shape", np.array([-1])),))
    clear_shape(graph, "features")


def to_whole_numbers(graph: Any) -> None:
    insert_before_output(graph, "features", "Cast", to=TensorProto.INT64)
    output_of(graph, "features").type.tensor_type.elem_type = TensorProto.INT64


def to_text(graph: Any) -> None:
    insert_before_output(graph, "features", "Cast", to=TensorProto.STRING)
    output_of(graph, "features").type.tensor_type.elem_type = TensorProto.STRING


def to_nan(graph: Any) -> None:
    insert_before_output(graph, "feature_distance", "Div", inputs=(constant(graph, "zero", np.float32(0)),))


def fix_batch(graph: Any) -> None:
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = 1


def to_float_input(graph: Any) -> None:
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def to_external(graph: Any) -> None:
    graph.initializer[0].ClearField("raw_data")
    graph.initializer[0].data_location = TensorProto.EXTERNAL
    graph.initializer[0].external_data.add(key="location", value="../../../../etc/passwd")


GRAPH_EDITS: dict[str, Edit] = {
    "no outputs but one": lambda graph: [graph.output.remove(output) for output in list(graph.output)[1:]],
    "no probabilities": lambda graph: graph.output.remove(output_of(graph, "probabilities")),
    "no feature distance": lambda graph: graph.output.remove(output_of(graph, "feature_distance")),
    "probabilities of another name": lambda graph: rename(graph, "probabilities", "scores"),
    "cells of another name": lambda graph: rename(graph, "cells", "images"),
    "two inputs": lambda graph: graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1])),
    "an output too many": lambda graph: graph.output.append(
        helper.make_tensor_value_info("cells", TensorProto.UINT8, ["n", 1, 28, 28])
    ),
    "logarithms": to_logits,
    "twice the probabilities": to_double,
    "a class too few": drop_a_class,
    "one row for all cells": to_one_row,
    "features in one row": flatten_features,
    "features of whole numbers": to_whole_numbers,
    "features of text": to_text,
    "a distance of infinity": to_nan,
    "one cell per batch": fix_batch,
    "cells of floats": to_float_input,
    "cells of another size": lambda graph: setattr(graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 56),
    "a node missing": lambda graph: graph.node.pop(5),
    "no nodes": lambda graph: graph.ClearField("node"),
    "a node twice": lambda graph: graph.node.append(graph.node[0]),
    "an unknown operator": lambda graph: setattr(graph.node[0], "op_type", "Nephros"),
    "an unknown domain": lambda graph: setattr(graph.node[0], "domain", "org.example"),
    "a weight missing": lambda graph: graph.initializer.pop(),
    "a weight in another file": to_external,
    "a weight of other dimensions": lambda graph: graph.initializer[0].dims.append(10**9),
    "a weight of negative dimensions": lambda graph: graph.initializer[0].dims.append(-1),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("edit", GRAPH_EDITS.values(), ids=GRAPH_EDITS)
@pytest.mark.parametrize("with_interface", [True, False])
def test_an_edited_graph_is_refused_though_its_digest_is_right(
    edit: Edit, with_interface: bool, exported_model: Path, cell: Path, tmp_path: Path, capsys: Capture
) -> None:
    model = onnx.load(exported_model)
    card = read_card(model)
    edit(model.graph)
    if not with_interface:
        del card["interface"]
    if not with_interface and edit is GRAPH_EDITS["an output too many"]:
        return  # outputs that no one reads are no fault
    path = write_onnx(tmp_path / "model.onnx", model, json.dumps(card))
    assert_refused(path, cell, capsys)


@pytest.fixture(scope="module")
def packaged(run_folder: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run_folder.root, "safetensors", out=tmp_path_factory.mktemp("packaged") / "model.safetensors")


HeaderEdit = Callable[[Card, dict[str, Any]], Any]


def edit_card(edit: Edit) -> HeaderEdit:
    def edit_parts(header: Card, _: dict[str, Any]) -> None:
        card = json.loads(header["card"])
        edit(card)
        header["card"] = json.dumps(card)

    return edit_parts


PACKAGE_EDITS: dict[str, HeaderEdit] = {
    "another format": lambda header, _: header.update(format="nephros-package-1"),
    "a run's format": lambda header, _: header.update(format="nephros-2"),
    "no card": lambda header, _: header.pop("card"),
    "a card of a mapping": lambda header, _: header.update(card={}),
    "a deep card": lambda header, _: header.update(card="[" * 100_000),
    "another temperature": edit_card(lambda card: card["calibration"].update(temperature=2.5)),
    "three views": edit_card(lambda card: card["network"].update(tta_views=3)),
    "a class too many": edit_card(lambda card: card["class_names"].append("more")),
    "a detector without ranges": edit_card(lambda card: card["ood_detector"].pop("ranges")),
    "another network": lambda header, _: header["model"].update(network="poster"),
    "a network of a number": lambda header, _: header["model"].update(network=3),
    "an unknown setting": lambda header, _: header["model"].update(tint=3),
    "channels of text": lambda header, _: header["model"].update(base_channels="8"),
    "other channels": lambda header, _: header["model"].update(base_channels=16),
    "a depth of 10^9": lambda header, _: header["model"].update(depth=10**9),
    "a billion classes": lambda header, _: header["input_spec"].update(n_classes=10**9),
    "another size": lambda header, _: header["input_spec"].update(height="28"),
    "no size": lambda header, _: header.pop("input_spec"),
    "no whitening": lambda _, tensors: tensors.pop("whitening"),
    "a mean of one feature": lambda _, tensors: tensors.update(feature_mean=torch.zeros(1)),
    "whitening of one feature": lambda _, tensors: tensors.update(whitening=torch.ones(1, 1)),
    "means of one class": lambda _, tensors: tensors.update(class_means=tensors["class_means"][:1]),
    "a head of one class": lambda _, tensors: tensors.update({"head.weight": tensors["head.weight"][:1]}),
    "half precision": lambda _, tensors: tensors.update({"head.weight": tensors["head.weight"].half()}),
    "a temperature of 0": lambda _, tensors: tensors.update(temperature=torch.tensor(0.0)),
    "a temperature of 1": lambda _, tensors: tensors.update(temperature=tensors["temperature"] * 3),
    "a tensor too many": lambda _, tensors: tensors.update(more=torch.ones(3)),
    "a weight of NaN": lambda _, tensors: tensors["head.weight"].__setitem__((0, 0), torch.nan),
    "an infinite scale": lambda _, tensors: tensors.update(input_scale=tensors["input_scale"] * torch.inf),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("edit", PACKAGE_EDITS.values(), ids=PACKAGE_EDITS)
def test_an_edited_safetensors_file_is_refused_though_its_digest_is_right(
    edit: HeaderEdit, packaged: Path, cell: Path, tmp_path: Path, capsys: Capture
) -> None:
    with safe_open(packaged, framework="pt") as file:
        header = json.loads(file.metadata()["nephros"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    edit(header, tensors)
    header["tensors_sha256"] = tensors_sha256(tensors)
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, {"nephros": json.dumps(header)})
    assert_refused(path, cell, capsys)
    with pytest.raises((FileError, DivergedError)):
        open_pretrained(path)


def test_the_error_says_what_kind_it_is(exported_model: Path, tmp_path: Path) -> None:
    model = onnx.load(exported_model)
    card, path = read_card(model), tmp_path / "model.onnx"
    edits: list[tuple[Edit, type[Exception]]] = [
        (lambda card: card["calibration"].update(temperature=0), FileError),
        (lambda card: card["class_names"].append("more"), IncompatibleError),
    ]
    for edit, error in edits:
        edited = json.loads(json.dumps(card))
        edit(edited)
        with pytest.raises(error):
            load_classifier(write_onnx(path, model, json.dumps(edited)))
    to_nan(model.graph)
    with pytest.raises(DivergedError):
        load_classifier(write_onnx(path, model, json.dumps(card)))


def test_what_earlier_versions_did_not_write_is_not_missed(exported_model: Path, tmp_path: Path) -> None:
    model = onnx.load(exported_model)
    card = read_card(model)
    del card["interface"], card["data"]["training_subset"], card["ood_detector"]["flagged_fraction"]
    card.pop("init", None)
    card["later"] = "a key of a later version"
    path = write_onnx(tmp_path / "model.onnx", model, json.dumps(card))
    cells = square_images(3, 4, 0)[0]
    expected = load_classifier(exported_model).predict_batch(cells).probabilities
    assert np.array_equal(load_classifier(path).predict_batch(cells).probabilities, expected)
