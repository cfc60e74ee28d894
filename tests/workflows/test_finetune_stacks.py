"""Fine-tuning from stacks, masks and tables of classes, and everything that follows it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.data.synthetic import NUCLEUS_TYPES
from nephros.errors import FileError, IncompatibleError, InvalidArgument, NephrosError
from nephros.evaluation.scoring import Evaluation
from nephros.microscopy.synthetic import SyntheticStack
from nephros.runs import RunFolder
from nephros.workflows.finetune import finetune
from tests.command_line import run_cli
from tests.server.live_server import encode_image, encode_npz, run_server

pytestmark = pytest.mark.usefixtures("reports_without_figures")
NAMES = ("A1", "A2", "B3", "B4")
PATTERNS: dict[str, Any] = {"mask": "{stem}_mask.tif", "classes": "{stem}.csv"}


def write_stack(folder: Path, name: str, seed: int) -> None:
    """Write NAME.ome.tif, NAME_mask.tif and NAME.csv: large and small nuclei; every fifth has no class."""
    tissue = SyntheticStack((9, 120, 120), seed=seed)
    pixels, labels = (np.stack(part) for part in zip(*tissue.slices(), strict=True))
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    tifffile.imwrite(folder / f"{name}.ome.tif", pixels, photometric="minisblack", metadata=metadata)
    tifffile.imwrite(folder / f"{name}_mask.tif", labels.astype(np.uint16), photometric="minisblack")
    with (folder / f"{name}.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Label", "Class"])
        for i in np.unique(labels)[1:].tolist():
            is_large = NUCLEUS_TYPES[tissue.nucleus_types[i - 1]].radius >= 6.5
            rows.writerow([i, "" if i % 5 == 0 else "large" if is_large else "small"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacks")
    for seed, name in enumerate(NAMES):
        write_stack(folder, name, seed)
    return folder


@pytest.fixture
def stacks(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(written, tmp_path / "stacks")
    monkeypatch.chdir(tmp_path / "stacks")
    return tmp_path / "stacks"


def paths(names: tuple[str, ...] = NAMES) -> list[str]:
    return [f"{name}.ome.tif" for name in names]


@pytest.mark.slow
def test_from_stacks_to_predictions_as_a_user_goes(stacks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*argv: str) -> str:
        status, out, err = run_cli(list(argv), capsys)
        assert status == 0, err
        return out + err

    options = ["--mask", "{stem}_mask.tif", "--classes", "{stem}.csv", "--methods", "head", "--test"]
    output = command("finetune", *paths(), *options, "--out", "first")
    assert "folds by group" in output
    assert "the intervals are for images of other groups (stacks, patients), estimated from these 2" in output
    shutil.move("first", "run")
    for name in NAMES:  # what follows needs the run folder only
        Path(f"{name}_mask.tif").unlink()
    info = RunFolder.open("run").info()
    assert info.data["n_groups"] == 4
    assert info.finetuning is not None
    assert info.finetuning["by_group"]
    for split in ("val", "test"):
        stored = Evaluation.from_run(RunFolder.open("run"), split)
        np.testing.assert_array_equal(nephros.evaluate("run", split=split).probabilities, stored.probabilities)
    assert "run" in command("compare", "run", "--split", "val")
    assert "report.html" in command("report", "run")
    command("export", "run", "--out", "model.onnx", "--force")
    with np.load("run/cells.npz") as arrays:
        images = arrays["images"]
    command("predict", "run/cells.npz", "--model", "run", "--out", "all.csv")
    with Path("all.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(images)
    assert {row["class_name"] for row in rows} <= {"small", "large"}
    assert "A1.ome.tif" in command("predict", "A1.ome.tif", "--model", "model.onnx", "--out", "stack.csv")
    with run_server(["--model", "model.onnx", "--reference-data", "none"]) as server:
        results = server.predict([("one.png", encode_image(images[0])), ("cells.npz", encode_npz(images=images[:3]))])
    assert [result["class_name"] for result in results] == [row["class_name"] for row in (rows[0], *rows[:3])]


def test_stacks_become_a_run_with_their_cells(stacks: Path, run_folder: RunFolder) -> None:
    result = finetune(paths(), init=run_folder.root, methods="head", folds=2, out="run", groups="stack", **PATTERNS)
    info = result.run.info()
    assert info.finetuning is not None
    assert (info.finetuning["by_group"], info.data["n_groups"]) == (True, 4)
    assert info.data_request["source"] == str(stacks / "run" / "cells.npz") == info.data["path"]
    assert {path.name for path in Path("run").glob("cells.*")} == {"cells.npz", "cells.csv", "cells.json"}
    assert nephros.evaluate("run").accuracy == Evaluation.from_run(RunFolder.open("run"), "val").accuracy
    dataset = nephros.load_dataset("run/cells.npz", groups="stack")
    assert dataset.unlabeled is not None
    assert not {path.name for path in stacks.iterdir() if path.name.startswith(("cells", ".", "nephros"))}


def test_too_few_stacks_are_split_by_nucleus_and_folded_by_stack(stacks: Path, run_folder: RunFolder) -> None:
    result = finetune(paths(NAMES[:2]), init=run_folder.root, methods="head", folds=5, out="run", **PATTERNS)
    info = result.run.info()
    assert info.finetuning is not None
    assert (info.finetuning["by_group"], info.finetuning["folds"]) == (True, 2)
    assert any("2 groups" in warning for warning in nephros.load_dataset("run/cells.npz").warnings)


def test_a_class_of_one_stack_is_folded_by_nucleus_with_a_warning(
    stacks: Path, run_folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    Path("A2.csv").write_text(Path("A2.csv").read_text().replace("large", "disc"))
    result = finetune(paths(NAMES[:2]), init=run_folder.root, methods="head", folds=2, out="run", **PATTERNS)
    record = result.run.info().finetuning
    assert record is not None
    assert not record["by_group"]
    assert "single training group" in caplog.text
    assert "one stack only" in caplog.text


@pytest.mark.slow
def test_what_is_doubtful_of_a_stack_is_said(
    stacks: Path, run_folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with np.load(nephros.prepare("A1.ome.tif", "first.npz").paths[-1]) as arrays:
        ids = arrays["ids"].tolist()
    with Path("automatic.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "class"], *([i, "ab"[i % 2]] for i in ids)])
    arguments: dict[str, Any] = {"init": run_folder.root, "methods": "head", "folds": 2}
    run = finetune("A1.ome.tif", classes="automatic.csv", out="run", **arguments).run
    assert "made automatically" in caplog.text
    assert any("ids in automatic.csv" in warning for warning in run.info().warnings)
    caplog.clear()
    finetune(paths(), out="masked", **arguments, **PATTERNS)
    assert "automatic" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        ({"classes": None, "mask": None}, InvalidArgument, ["`data`", "`classes`"]),
        ({"data": "A1.ome.tif", "classes": None}, InvalidArgument, ["`mask`", "`classes`"]),
        ({"data": np.zeros((3, 28, 28))}, InvalidArgument, ["`data`"]),
        ({"labels": ["a"]}, InvalidArgument, ["`labels`"]),
        ({"groups": ["a", "b"]}, InvalidArgument, ["`groups`"]),
        ({"groups": "mouse"}, InvalidArgument, ["`groups`", "stack"]),
        ({"groups": "stack", "data": paths(NAMES[:2])}, InvalidArgument, ["`groups`", "for all training images", "none"]),
        ({"folds": 1}, InvalidArgument, ["`folds`"]),
        ({"mask": "{stem}_no.tif"}, FileError, ["A1_no.tif"]),
        ({"classes": "bad/{stem}.csv"}, IncompatibleError, ["9999"]),
        ({"classes": "lonely/{stem}.csv"}, IncompatibleError, ["'large'"]),
        ({"classes": "one/{stem}.csv"}, IncompatibleError, ["1 class"]),
        ({"class_column": "Kind"}, InvalidArgument, ["Kind", "Label, Class"]),
        ({"white_level": -1.0}, InvalidArgument, ["`white_level`"]),
    ],
)  # fmt: skip
def test_bad_stacks_are_one_sentence_and_nothing_is_written(
    arguments: dict[str, Any], error: type[NephrosError], parts: list[str], stacks: Path, run_folder: RunFolder
) -> None:
    first = Path("A1.csv").read_text()
    for name, change in (("bad", "\n9999,small"), ("lonely", ""), ("one", "")):
        (stacks / name).mkdir()
        for stack in NAMES:
            text = Path(f"{stack}.csv").read_text()
            text = text.replace("large", "" if name == "lonely" else "small") if name != "bad" else text + change
            (stacks / name / f"{stack}.csv").write_text(text)
    Path("lonely/A1.csv").write_text(first.replace("large", "", first.count("large") - 1))
    before = sorted(stacks.rglob("*"))
    given = {"data": paths(), "init": run_folder.root, "methods": "head", "out": "run", **PATTERNS, **arguments}
    with pytest.raises(error) as caught:
        finetune(**given)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert sorted(stacks.rglob("*")) == before


@pytest.mark.slow
def test_what_an_error_asks_for_is_an_option(stacks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.stack([tifffile.imread(f"{name}.ome.tif") for name in ("A1", "A1")])
    series = np.stack([pixels, pixels], axis=2)
    metadata: dict[str, Any] = {"axes": "TZCYX", "PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    metadata["Channel"] = {"Name": ["GFP", "DAPI"]}
    tifffile.imwrite("A1.ome.tif", series, photometric="minisblack", ome=True, metadata=metadata)
    Path("A1.csv").write_text("id,class\n1,a\n2,a\n3,a\n")  # which is refused once the nuclei are cropped
    args = ["finetune", "A1.ome.tif", "--mask", "A1_mask.tif", "--classes", "A1.csv"]
    for option, value, expected in (("time-point", "1", "2 channels"), ("channel", "dapi", "at least two")):
        status, _, err = run_cli(args, capsys)
        assert status == 2
        assert f"set --{option}" in err
        args += [f"--{option}", value]
        assert expected in run_cli(args, capsys)[2]
    for wrong in (["--level", "1"], ["--image", "3"], ["--axes", "QQQYX"], ["--min-volume", "-1"]):
        assert f"{wrong[0]} is {wrong[1]}" in run_cli([*args, *wrong], capsys)[2]


def test_only_channels_of_stacks_have_names(stacks: Path) -> None:
    np.savez("cells.npz", images=np.zeros((9, 28, 28), np.uint8), labels=np.arange(9) % 3)
    with pytest.raises(InvalidArgument) as error:
        finetune("cells.npz", channel="DAPI")
    assert error.value.parameter == "channel"
