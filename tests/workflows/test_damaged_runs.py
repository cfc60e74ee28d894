"""Run folders that were damaged, edited by hand or put together from several runs: every command ends with one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from nephros import runs
from nephros.errors import FileError
from nephros.evaluation.scoring import load_run_model
from nephros.files import file_digest
from nephros.recipe import Recipe, to_yaml
from nephros.runs import RunFolder
from nephros.training import checkpoint
from nephros.training.classical.search_results import read_search_results
from nephros.training.distillation import SOFT_TARGETS_FILE, read_soft_targets
from nephros.workflows.resume import resume
from tests.command_line import Capture, assert_usage_error, run_cli
from tests.conftest import square_images

pytestmark = pytest.mark.usefixtures("reports_without_figures")

Edit = Callable[[Any], Any]
DEEP = "[" * 100_000


@pytest.fixture
def run(run_folder: RunFolder, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return Path(shutil.copytree(run_folder.root, tmp_path / "run", ignore=shutil.ignore_patterns("export", "figures")))


def edit_json(path: Path, edit: Edit) -> None:
    values = json.loads(path.read_text())
    result = edit(values)
    path.write_text(json.dumps(values if result is None else result))


def assert_refused(run: Path, file: str, capsys: Capture, *commands: str) -> None:
    """Assert that each command on the run ends with one sentence that names the file."""
    image = run.parent / "0.png"
    Image.fromarray(square_images(1, 4, 0)[0][0]).save(image)
    for command in commands:
        status, out, err = run_cli([*command.replace("IMAGE", str(image)).split(), str(run)], capsys)
        assert (status, out) == (2, ""), err
        sentence = err.strip().splitlines()[-1]
        assert sentence.startswith("nephros: ")
        assert file in sentence
        assert "Traceback" not in err


BROKEN_JSON: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "cut short": b'{"format": "nephros-run-2", "recipe": "ne',
    "100,000 brackets": DEEP.encode(),
    "100,000 mappings": b'{"a":' * 100_000,
    "5,000 digits": b'{"format": ' + b"9" * 5000 + b"}",
    "Latin-1": '{"format": "größe"}'.encode("latin-1"),
    "UTF-16": '{"format": "nephros-run-2"}'.encode("utf-16"),
    "zeros": bytes(1000),
    "a zip": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.sampled(8)
@pytest.mark.parametrize("content", BROKEN_JSON.values(), ids=BROKEN_JSON)
@pytest.mark.parametrize("file", ["run.json", "val/metrics.json", "recipe.yaml", "history.csv"])
def test_a_file_of_something_else_is_named(file: str, content: bytes, run: Path, capsys: Capture) -> None:
    (run / file).write_bytes(content)
    assert_refused(run, file.split("/")[-1], capsys, "report")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("val/metrics.json", "compare --split val"),
        ("val/predictions.npz", "compare --split val"),
        ("recipe.yaml", "report"),
        ("weights.safetensors", "evaluate"),
        ("checkpoint.pt", "train --resume"),
    ],
)
def test_what_is_no_file_is_named(file: str, command: str, kind: str, run: Path, capsys: Capture) -> None:
    if command == "train --resume":
        to_unfinished(run)
    path = run / file
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    assert_refused(run, str(run), capsys, command)


RUN_JSON_EDITS: dict[str, Edit] = {
    "another format": lambda info: info.update(format="nephros-run-9"),
    "a format of a list": lambda info: info.update(format=["nephros-run-2"]),
    "no recipe": lambda info: info.pop("recipe"),
    "an unknown key": lambda info: info.update(tint="red"),
    "a recipe of a number": lambda info: info.update(recipe=7),
    "a seed of text": lambda info: info.update(seed="0"),
    "a seed of a fraction": lambda info: info.update(seed=0.5),
    "a seed of true": lambda info: info.update(seed=True),
    "a seed of 30 digits": lambda info: info.update(seed=10**30),
    "a status of its own": lambda info: info.update(status="finished"),
    "a status of a list": lambda info: info.update(status=["complete"]),
    "data of text": lambda info: info.update(data="squares"),
    "data without a title": lambda info: info["data"].pop("title"),
    "a title of a list": lambda info: info["data"].update(title=["a"]),
    "a digest of a number": lambda info: info["data"].update(sha256=1),
    "a detail of nothing": lambda info: info["data"].update(detail=None),
    "no source": lambda info: info["data_request"].pop("source"),
    "a source of a number": lambda info: info["data_request"].update(source=3),
    "a size of text": lambda info: info["data_request"].update(size="28"),
    "a request that load does not know": lambda info: info["data_request"].update(tint=1),
    "class names of text": lambda info: info.update(class_names="abcd"),
    "a class name of a number": lambda info: info["class_names"].__setitem__(0, 7),
    "half a surrogate pair": lambda info: info["class_names"].__setitem__(0, "\ud800"),
    "half a pair of a file name": lambda info: info["class_names"].__setitem__(0, "\udce9"),
    "a repeated class name": lambda info: info["class_names"].__setitem__(0, info["class_names"][1]),
    "a class too many": lambda info: info["class_names"].append("more"),
    "a class too few": lambda info: info["class_names"].pop(),
    "no class": lambda info: info["class_names"].clear(),
    "two channels": lambda info: info["input_spec"].update(channels=2),
    "a height of 0": lambda info: info["input_spec"].update(height=0),
    "a width of text": lambda info: info["input_spec"].update(width="28"),
    "no number of classes": lambda info: info["input_spec"].pop("n_classes"),
    "counts without test": lambda info: info["class_counts"].pop("test"),
    "counts of other classes": lambda info: info["class_counts"]["train"].append(1),
    "counts below 0": lambda info: info["class_counts"]["val"].__setitem__(0, -5),
    "counts of text": lambda info: info["class_counts"].update(train="1, 2"),
    "a mean of text": lambda info: info["normalization"].update(mean=["0.5"]),
    "three views": lambda info: info.update(tta_views=3),
    "views of text": lambda info: info.update(tta_views="1"),
    "no threads": lambda info: info.update(threads=0),
    "no replicas": lambda info: info.update(replicas=0),
    "parameters below 0": lambda info: info.update(parameters=-1),
    "parameters of text": lambda info: info.update(parameters="many"),
    "multiply-adds of 30 digits": lambda info: info.update(multiply_adds=10**30),
    "an epoch of 0": lambda info: info.update(chosen_epoch=0),
    "an epoch of text": lambda info: info.update(chosen_epoch="last"),
    "minutes of text": lambda info: info.update(training_minutes="long"),
    "minutes of NaN": lambda info: info.update(training_minutes=float("nan")),
    "minutes of infinity": lambda info: info.update(training_minutes=float("inf")),
    "minutes below 0": lambda info: info.update(training_minutes=-1),
    "versions of a list": lambda info: info.update(versions=["torch"]),
    "a version of a list": lambda info: info["versions"].update(torch=[2, 13]),
    "teachers of text": lambda info: info.update(teachers="run"),
    "a teacher without weights": lambda info: info.update(teachers=[{"run": "a", "recipe": "b", "recipe_hash": "c"}]),
    "warnings of a number": lambda info: info.update(warnings=1),
    "a command of a list": lambda info: info.update(command=["nephros"]),
    "a conversion of text": lambda info: info.update(input_conversion="letterbox"),
    "an unknown conversion": lambda info: info["input_conversion"].update(resize="crop"),
    "a white level of NaN": lambda info: info["input_conversion"].update(white_level=float("nan")),
    "initial weights of text": lambda info: info.update(init="bundled"),
    "fine-tuning without folds": lambda info: info.update(finetuning={"method": "head"}),
    "a test of text": lambda info: info.update(test="no"),
}


@pytest.mark.sampled(8)
@pytest.mark.parametrize("edit", RUN_JSON_EDITS.values(), ids=RUN_JSON_EDITS)
def test_an_edited_run_json_is_refused(edit: Edit, run: Path, capsys: Capture) -> None:
    edit_json(run / "run.json", edit)
    assert_refused(run, "run.json", capsys, "report", "evaluate", "compare", "export", "train --resume")


def test_a_repeated_key_is_refused(run: Path, capsys: Capture) -> None:
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"seed":', '"seed": 1, "seed":'))
    assert_refused(run, "run.json", capsys, "report")


METRICS_EDITS: dict[str, Edit] = {
    "another format": lambda metrics: metrics.update(format="nephros-metrics-1"),
    "no accuracy": lambda metrics: metrics.pop("accuracy"),
    "a better accuracy": lambda metrics: metrics.update(accuracy=0.999),
    "an accuracy of text": lambda metrics: metrics.update(accuracy="high"),
    "an accuracy of NaN": lambda metrics: metrics.update(accuracy=float("nan")),
    "an accuracy of nothing": lambda metrics: metrics.update(accuracy=None),
    "an accuracy above 1": lambda metrics: metrics.update(accuracy=1.5),
    "an interval of a list": lambda metrics: metrics.update(accuracy_interval=[0, 1]),
    "an interval elsewhere": lambda metrics: metrics["accuracy_interval"].update(low=0.0, high=0.001),
    "an AUC of text": lambda metrics: metrics.update(auc="0.9"),
    "an AUC of 2": lambda metrics: metrics.update(auc=2),
    "a loss below 0": lambda metrics: metrics.update(loss=-1),
    "images of text": lambda metrics: metrics.update(n="120"),
    "other images": lambda metrics: metrics.update(n=7),
    "no images": lambda metrics: metrics.update(n=0),
    "an unknown key": lambda metrics: metrics.update(tint=1),
    "classes of text": lambda metrics: metrics.update(per_class="all"),
    "a class of text": lambda metrics: metrics["per_class"].__setitem__(0, "kind 0"),
    "a class too few": lambda metrics: metrics["per_class"].pop(),
    "a class without a name": lambda metrics: metrics["per_class"][0].pop("name"),
    "another class's name": lambda metrics: metrics["per_class"][0].update(name="other"),
    "classes in another order": lambda metrics: metrics["per_class"].reverse(),
    "another support": lambda metrics: metrics["per_class"][0].update(support=10**6),
    "a precision of infinity": lambda metrics: metrics["per_class"][0].update(precision=float("inf")),
    "an empty matrix": lambda metrics: metrics.update(confusion_matrix=[]),
    "a matrix of text": lambda metrics: metrics.update(confusion_matrix=["a", "b", "c", "d"]),
    "a ragged matrix": lambda metrics: metrics["confusion_matrix"][0].pop(),
    "a matrix of fractions": lambda metrics: metrics["confusion_matrix"][0].__setitem__(0, 0.5),
    "other counts": lambda metrics: metrics["confusion_matrix"].reverse(),
    "counts below 0": lambda metrics: metrics["confusion_matrix"][0].__setitem__(1, -3),
    "classes that don't exist": lambda metrics: metrics.update(macro_classes=[0, 99]),
    "another split": lambda metrics: metrics.update(split="test"),
    "another recipe": lambda metrics: metrics.update(recipe_hash="0" * 16),
    "other data": lambda metrics: metrics["provenance"].update(sha256="0" * 64),
    "views of 0": lambda metrics: metrics.update(tta_views=0),
    "an epoch of text": lambda metrics: metrics.update(epoch="last"),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("edit", METRICS_EDITS.values(), ids=METRICS_EDITS)
def test_edited_metrics_are_refused(edit: Edit, run: Path, capsys: Capture) -> None:
    edit_json(run / "val" / "metrics.json", edit)
    assert_refused(run, "metrics.json", capsys, "report", "compare --split val")


def edit_predictions(run: Path, **changes: Any) -> None:
    path = run / "val" / "predictions.npz"
    with np.load(path) as file:
        arrays = {**file, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def predictions(run: Path) -> dict[str, Any]:
    with np.load(run / "val" / "predictions.npz") as file:
        return dict(file)


PREDICTIONS_EDITS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "no labels": lambda _: {"labels": None},
    "other images": lambda arrays: {key: array[:-1] for key, array in arrays.items()},
    "other classes": lambda arrays: {"probabilities": arrays["probabilities"][:, :-1]},
    "one row": lambda arrays: {"probabilities": arrays["probabilities"][:1]},
    "flat": lambda arrays: {"probabilities": arrays["probabilities"].ravel()},
    "a number": lambda _: {"probabilities": np.float64(0.5)},
    "text": lambda arrays: {"probabilities": arrays["probabilities"].astype(str)},
    "complex numbers": lambda arrays: {"probabilities": arrays["probabilities"].astype(complex)},
    "objects": lambda arrays: {"labels": arrays["labels"].astype(object)},
    "NaN": lambda arrays: {"probabilities": arrays["probabilities"] * np.nan},
    "infinity": lambda arrays: {"probabilities": arrays["probabilities"] + np.inf},
    "logits": lambda arrays: {"probabilities": np.log(arrays["probabilities"])},
    "sums of 2": lambda arrays: {"probabilities": 2 * arrays["probabilities"]},
    "another order": lambda arrays: {"probabilities": arrays["probabilities"][::-1]},
    "another model's": lambda arrays: {"probabilities": np.roll(arrays["probabilities"], 1, axis=1)},
    "labels of fractions": lambda arrays: {"labels": arrays["labels"] + 0.5},
    "labels below 0": lambda arrays: {"labels": arrays["labels"] - 1},
    "labels above": lambda arrays: {"labels": arrays["labels"] + 100},
    "other labels": lambda arrays: {"labels": arrays["labels"][::-1]},
    "64 MB of zeros": lambda _: {"probabilities": np.zeros((1 << 20, 8))},
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("edit", PREDICTIONS_EDITS.values(), ids=PREDICTIONS_EDITS)
def test_edited_predictions_are_refused(edit: Edit, run: Path, capsys: Capture) -> None:
    edit_predictions(run, **edit(predictions(run)))
    assert_refused(run, "predictions.npz", capsys, "report", "compare --split val")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", bytes(5000), b"PK\x05\x06" + bytes(18)])
def test_predictions_that_are_no_npz_file_are_named(content: bytes, run: Path, capsys: Capture) -> None:
    (run / "val" / "predictions.npz").write_bytes(content)
    assert_refused(run, "predictions.npz", capsys, "report")


def edit_rows(edit: Callable[[list[list[str]]], Any]) -> Edit:
    def edit_text(path: Path) -> None:
        rows = [line.split(",") for line in path.read_text().splitlines()]
        edit(rows)
        path.write_text("\n".join(",".join(row) for row in rows) + "\n")

    return edit_text


HISTORY_EDITS: dict[str, Edit] = {
    "no header": edit_rows(lambda rows: rows.pop(0)),
    "a column too few": edit_rows(lambda rows: [row.pop() for row in rows]),
    "a column too many": edit_rows(lambda rows: rows[0].append("more")),
    "a short row": edit_rows(lambda rows: rows[-1].pop()),
    "a long row": edit_rows(lambda rows: rows[-1].append("1")),
    "text": edit_rows(lambda rows: rows[-1].__setitem__(2, "low")),
    "NaN": edit_rows(lambda rows: rows[-1].__setitem__(2, "nan")),
    "infinity": edit_rows(lambda rows: rows[-1].__setitem__(9, "inf")),
    "an epoch of text": edit_rows(lambda rows: rows[-1].__setitem__(0, "last")),
    "an epoch of 5,000 digits": edit_rows(lambda rows: rows[-1].__setitem__(0, "9" * 5000)),
    "an epoch twice": edit_rows(lambda rows: rows.append(rows[-1])),
    "an epoch missing": edit_rows(lambda rows: rows.pop(1)),
    "NUL": lambda path: path.write_bytes(path.read_bytes() + b"\x00\x00"),
    "a quote": lambda path: path.write_text(path.read_text() + '"'),
}


@pytest.mark.parametrize("edit", HISTORY_EDITS.values(), ids=HISTORY_EDITS)
def test_an_edited_history_is_refused(edit: Edit, run: Path, capsys: Capture) -> None:
    edit(run / "history.csv")
    assert_refused(run, "history.csv", capsys, "report")


def test_another_recipe_or_other_weights_than_the_runs_are_refused(run: Path, capsys: Capture) -> None:
    original = (run / "recipe.yaml").read_bytes()
    (run / "recipe.yaml").write_text(to_yaml(Recipe(name="other")))
    assert_refused(run, "recipe.yaml", capsys, "report", "compare", "export")
    (run / "recipe.yaml").write_bytes(original)
    path = run / "weights.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({name: tensor + tensor for name, tensor in tensors.items()}, path, metadata)
    assert_refused(run, "weights.safetensors", capsys, "evaluate", "export", "predict IMAGE --model")
    edit_json(run / "run.json", lambda info: info.update(weights_sha256=file_digest(path)))
    load_run_model(RunFolder.open(run))


SOFT_TARGETS: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("targets"),
    "other images": lambda path: np.savez(path, probabilities=np.full((7, 4), 0.25)),
    "other classes": lambda path: np.savez(path, probabilities=np.full((480, 5), 0.2)),
    "NaN": lambda path: np.savez(path, probabilities=np.full((480, 4), np.nan)),
    "logits": lambda path: np.savez(path, probabilities=np.full((480, 4), -1.0)),
    "another name": lambda path: np.savez(path, targets=np.full((480, 4), 0.25)),
    "objects": lambda path: np.savez(path, probabilities=np.array([{}], dtype=object)),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("write", SOFT_TARGETS.values(), ids=SOFT_TARGETS)
def test_other_soft_targets_are_refused(write: Callable[[Path], Any], tmp_path: Path) -> None:
    write(tmp_path / SOFT_TARGETS_FILE)
    with pytest.raises(FileError) as caught:
        read_soft_targets(RunFolder(tmp_path, synthetic=False), 480, 4)
    assert caught.value.path == tmp_path / SOFT_TARGETS_FILE


SEARCH_HEADER = "features,distance,n_neighbors,C,gamma,val_accuracy,val_loss,val_macro_f1,val_auc,seconds"


@pytest.mark.parametrize(
    "text",
    ["", "a,b", SEARCH_HEADER + ",more\n", SEARCH_HEADER[:-8], SEARCH_HEADER + "\npixels,,1,,,x,1,1,1,1",
     SEARCH_HEADER + "\npixels,,1,,,nan,1,1,1,1", SEARCH_HEADER + "\npixels,,1,,,1,inf,1,1,1",
     SEARCH_HEADER + "\npixels", SEARCH_HEADER + "\n\0", DEEP],
)  # fmt: skip
def test_other_search_results_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "search_results.csv"
    path.write_text(text)
    with pytest.raises(FileError) as caught:
        read_search_results(path)
    assert caught.value.path == path
    path.write_text(SEARCH_HEADER + "\npixels,euclidean,1,,,0.5,1,0.5,nan,1\n")
    assert read_search_results(path)[0].val_accuracy == 0.5


def edit_header(edit: Callable[[Any, Any], Any]) -> Edit:
    def edit_file(path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["nephros"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        edit(header, tensors)
        save_file(tensors, path, {"nephros": json.dumps(header)})

    return edit_file


WEIGHTS_EDITS: dict[str, Edit] = {
    "nothing": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a pickle": lambda path: torch.save({"weights": torch.ones(3)}, path),
    "a header of 2^60 bytes": lambda path: path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}"),
    "another program's": lambda path: save_file({"weight": torch.ones(3)}, path),
    "a header of text": lambda path: save_file({"weight": torch.ones(3)}, path, {"nephros": "hello"}),
    "a deep header": lambda path: save_file({"weight": torch.ones(3)}, path, {"nephros": DEEP}),
    "a header of a list": lambda path: save_file({"weight": torch.ones(3)}, path, {"nephros": "[]"}),
    "another format": edit_header(lambda header, _: header.update(format="nephros-9")),
    "no model": edit_header(lambda header, _: header.pop("model")),
    "an unknown network": edit_header(lambda header, _: header["model"].update(network="transformer")),
    "a network of a list": edit_header(lambda header, _: header["model"].update(network=["compact"])),
    "channels of text": edit_header(lambda header, _: header["model"].update(base_channels="8")),
    "a million channels": edit_header(lambda header, _: header["model"].update(base_channels=10**6)),
    "channels below 0": edit_header(lambda header, _: header["model"].update(base_channels=-8)),
    "a depth of 10^9": edit_header(lambda header, _: header["model"].update(depth=10**9)),
    "a hidden layer of text": edit_header(lambda header, _: header["model"].update(hidden="ab")),
    "a dropout of NaN": edit_header(lambda header, _: header["model"].update(dropout=float("nan"))),
    "another depth": edit_header(lambda header, _: header["model"].update(depth=3)),
    "other classes": edit_header(lambda header, _: header["input_spec"].update(n_classes=7)),
    "a million classes": edit_header(lambda header, _: header["input_spec"].update(n_classes=10**9)),
    "images of 10^9 pixels": edit_header(lambda header, _: header["input_spec"].update(height=10**9, width=10**9)),
    "two channels": edit_header(lambda header, _: header["input_spec"].update(channels=2)),
    "class names of text": edit_header(lambda header, _: header.update(class_names="abcd")),
    "a class name too few": edit_header(lambda header, _: header["class_names"].pop()),
    "other class names": edit_header(lambda header, _: header["class_names"].reverse()),
    "half a surrogate pair": edit_header(lambda header, _: header["class_names"].__setitem__(0, "\ud800")),
    "a tensor too few": edit_header(lambda _, tensors: tensors.popitem()),
    "a tensor too many": edit_header(lambda _, tensors: tensors.update(more=torch.ones(1))),
    "a tensor of another shape": edit_header(lambda _, tensors: tensors.update(mean=torch.ones(7))),
    "a tensor of another type": edit_header(lambda _, tensors: tensors.update(mean=torch.ones(1, dtype=torch.int8))),
    "a standard deviation of 0": edit_header(lambda _, tensors: tensors.update(std=torch.zeros(1))),
}


@pytest.mark.sampled(8)
@pytest.mark.parametrize("edit", WEIGHTS_EDITS.values(), ids=WEIGHTS_EDITS)
def test_edited_weights_are_refused(edit: Edit, run: Path, capsys: Capture) -> None:
    path = run / "weights.safetensors"
    edit(path)
    edit_json(run / "run.json", lambda info: info.update(weights_sha256=file_digest(path)))
    assert_refused(run, "weights.safetensors", capsys, "evaluate", "predict IMAGE --model")


def to_unfinished(run: Path) -> Path:
    """Turn a finished run into one that was stopped after its last checkpoint, and return that."""
    for name in ("weights.safetensors", "report.html"):
        (run / name).unlink()
    edit_json(run / "run.json", lambda info: info.update(status="training", chosen_epoch=None, weights_sha256=""))
    return run / "checkpoint.pt"


def edit_state(edit: Edit) -> Edit:
    def edit_file(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        edit(state)
        torch.save(state, path)

    return edit_file


class Code:
    """Would create a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("pickled",)


def write_npz_there(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, a=np.ones(3))


def flip_bit(path: Path, content: bytes) -> None:
    """Flip a bit of the place in a file where `content` stands."""
    data = bytearray(path.read_bytes())
    data[data.index(content) + 5] ^= 1
    path.write_bytes(data)


def first_tensor(state: dict[str, Any]) -> tuple[str, Any]:
    return next((name, tensor) for name, tensor in state["model"].items() if tensor.ndim > 1)


def replace_tensor(state: dict[str, Any], change: Edit) -> None:
    name, tensor = first_tensor(state)
    state["model"][name] = change(tensor)


def replace_moments(state: dict[str, Any], change: Edit) -> None:
    for values in state["optimizer"]["state"].values():
        values["momentum_buffer"] = change(values["momentum_buffer"])


CHECKPOINT_EDITS: dict[str, Edit] = {
    "nothing": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("checkpoint"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "a changed bit of a tensor": lambda path: flip_bit(path, first_tensor(checkpoint.load(path))[1].numpy().tobytes()),
    "another zip": write_npz_there,
    "code": lambda path: torch.save({"history": [], "model": Code()}, path),
    "a tensor": lambda path: torch.save(torch.ones(3), path),
    "a list": lambda path: torch.save([1, 2], path),
    "a plain network": lambda path: torch.save({"weight": torch.ones(3)}, path),
    "no model": edit_state(lambda state: state.pop("model")),
    "no optimizer": edit_state(lambda state: state.pop("optimizer")),
    "no history": edit_state(lambda state: state.pop("history")),
    "no schedule": edit_state(lambda state: state.pop("lr_schedule")),
    "a history of text": edit_state(lambda state: state.update(history="three epochs")),
    "an epoch of a list": edit_state(lambda state: state["history"].__setitem__(0, [1])),
    "an epoch twice": edit_state(lambda state: state["history"].append(state["history"][-1])),
    "an epoch missing": edit_state(lambda state: state["history"].pop(0)),
    "a loss of NaN": edit_state(lambda state: state["history"][0].update(train_loss=float("nan"))),
    "an accuracy of text": edit_state(lambda state: state["history"][0].update(val_accuracy="1")),
    "1,000 epochs": edit_state(
        lambda state: state.update(history=[state["history"][0] | {"epoch": i} for i in range(1, 1001)])
    ),
    "a best epoch of its own": edit_state(lambda state: state["best"].update(val_accuracy=0.123)),
    "a best epoch of text": edit_state(lambda state: state.update(best="the last")),
    "no best epoch": edit_state(lambda state: state.update(best={})),
    "a tensor missing": edit_state(lambda state: state["model"].pop(first_tensor(state)[0])),
    "a tensor too many": edit_state(lambda state: state["model"].update(more=torch.ones(2))),
    "a tensor of another shape": edit_state(lambda state: replace_tensor(state, lambda tensor: tensor[..., :1])),
    "a tensor of another type": edit_state(lambda state: replace_tensor(state, lambda tensor: tensor.double())),
    "a tensor of NaN": edit_state(lambda state: replace_tensor(state, lambda tensor: tensor * torch.nan)),
    "a tensor of a list": edit_state(lambda state: replace_tensor(state, lambda tensor: tensor.tolist())),
    "no moments": edit_state(lambda state: state["optimizer"].update(state={})),
    "moments of another shape": edit_state(lambda state: replace_moments(state, lambda moment: moment.flatten()[:1])),
    "moments of infinity": edit_state(lambda state: replace_moments(state, lambda moment: moment + torch.inf)),
    "moments of text": edit_state(lambda state: replace_moments(state, lambda moment: "zero")),
    "an optimizer of text": edit_state(lambda state: state.update(optimizer="sgd")),
    "another momentum": edit_state(lambda state: state["optimizer"]["param_groups"][0].update(momentum=0.1)),
    "other groups": edit_state(lambda state: state["optimizer"]["param_groups"].pop()),
    "a multiplier of text": edit_state(lambda state: state["lr_schedule"].update(plateau_multiplier="1")),
    "a multiplier of NaN": edit_state(lambda state: state["lr_schedule"].update(plateau_multiplier=float("nan"))),
    "a multiplier of 10^9": edit_state(lambda state: state["lr_schedule"].update(plateau_multiplier=1e9)),
    "another run's": edit_state(lambda state: state.update(fingerprint="another recipe")),
    "a fingerprint of a list": edit_state(lambda state: state.update(fingerprint=[1])),
}


@pytest.mark.sampled(8)
@pytest.mark.parametrize("edit", CHECKPOINT_EDITS.values(), ids=CHECKPOINT_EDITS)
def test_an_edited_checkpoint_is_refused(
    edit: Edit, run: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = to_unfinished(run)
    edit(path)
    assert_refused(run, "checkpoint.pt", capsys, "train --resume")
    assert not (run / "weights.safetensors").exists()
    assert not (tmp_path / "pickled").exists()


def test_an_unchanged_checkpoint_is_continued_and_one_without_a_fingerprint_too(
    run: Path, run_folder: RunFolder
) -> None:
    path = to_unfinished(run)
    state = checkpoint.load(path)
    assert state.pop("fingerprint")
    checkpoint.save(path, state)
    resume(run)
    with safe_open(run / "weights.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with safe_open(run_folder.file("weights.safetensors"), framework="pt") as file:
        assert all(torch.equal(tensors[name], file.get_tensor(name)) for name in file.keys())  # noqa: SIM118


def test_a_run_of_a_version_whose_recipes_lack_a_field_is_continued(run: Path) -> None:
    path = to_unfinished(run)
    recipe_file, info_file = run / "recipe.yaml", run / "run.json"
    info, text = json.loads(info_file.read_text()), recipe_file.read_text()
    earlier = text.replace("  unaugmented_epochs: 0\n", "")
    assert earlier != text
    recipe_file.write_text(earlier)
    earlier_hash = hashlib.sha256(earlier.encode()).hexdigest()[:16]
    for file in (info_file, *run.rglob("metrics.json")):
        file.write_text(file.read_text().replace(info["recipe_hash"], earlier_hash))
    state = checkpoint.load(path)
    fingerprint = state["fingerprint"].replace(info["recipe_hash"], earlier_hash)
    checkpoint.save(path, {**state, "fingerprint": fingerprint})
    resume(run)
    assert RunFolder.open(run).info().status == "complete"
    assert RunFolder.open(run).info().recipe_hash == earlier_hash != RunFolder.open(run).recipe().hash


def test_a_recipe_with_line_ends_of_windows_is_the_same(run: Path) -> None:
    file = run / "recipe.yaml"
    recipe = RunFolder.open(run).recipe()
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert RunFolder.open(run).recipe() == recipe


def test_damaged_lines_of_the_log_of_test_reads_count_as_reads(run: Path, capsys: Capture) -> None:
    lines = [b"{", b"[]", b"7", b"\xff\xfe", DEEP.encode(), b'{"time": 5}', b'{"time": "x", "more": 1}', b"9" * 5000]
    with open(run / "test" / "reads.jsonl", "ab") as file:
        file.write(b"\n".join(lines) + b"\n")
    reads = RunFolder.open(run).test_reads()
    assert len(reads) == 1 + len(lines)
    assert reads[1:] == [runs.TestRead()] * len(lines)
    assert run_cli(["report", str(run)], capsys)[0] == 0


def test_a_run_without_the_newer_keys_is_read(run: Path, capsys: Capture) -> None:
    edit_json(
        run / "run.json", lambda info: [info.pop(key) for key in ("weights_sha256", "warnings", "teachers")] and None
    )
    assert RunFolder.open(run).info().weights_sha256 == ""
    assert load_run_model(RunFolder.open(run)).training is False
    for command in ("report", "compare", "evaluate"):
        assert run_cli([command, str(run)], capsys)[0] == 0


def test_a_damaged_run_does_not_cost_the_report_of_another(run: Path, run_folder: RunFolder, capsys: Capture) -> None:
    (run / "run.json").write_bytes(b"{")
    assert_usage_error(["compare", str(run_folder.root), str(run)], capsys, str(run / "run.json"))
    with pytest.raises(FileError) as caught:
        RunFolder.open(run).info()
    assert caught.value.path == run / "run.json"
