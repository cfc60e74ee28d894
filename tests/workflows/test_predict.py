"""nephros predict from the command line: tables in every format, exit codes, and no torch on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image

import nephros
from nephros.cli import main
from nephros.inference import predictions
from nephros.inference.predictor import Predictor
from nephros.runs import RunFolder
from tests.conftest import square_images

Capture = pytest.CaptureFixture[str]
HEAVY = ("torch", "pandas", "matplotlib", "sklearn", "scipy", "onnx")


def run_words(words: list[object], capsys: Capture) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["predict", *map(str, words)])
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cells and a broken file between them."""
    images, _ = square_images(3, 4, 9)
    root = tmp_path / "cells"
    root.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(root / f"{index}.png")
    (root / "1-broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return root


def test_csv_on_a_pipe_has_a_row_for_good_and_bad(
    folder: Path, exported_model: Path, predictor: Predictor, capsys: Capture
) -> None:
    status, out, err = run_words([folder, "--model", exported_model], capsys)
    assert status == 1
    rows = list(csv.DictReader(io.StringIO(out)))
    columns = "file index split label class_name p_0 p_1 p_2 p_3 prediction_set is_ood ood_reasons error"
    assert list(rows[0]) == columns.split()
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1-broken.png", "1.png", "2.png"]
    assert "1-broken.png is damaged" in rows[1]["error"]
    assert rows[1]["label"] == rows[1]["p_0"] == rows[1]["is_ood"] == ""
    answers = predictor.predict_batch(square_images(3, 4, 9)[0])
    sets = predictor.prediction_sets(answers.probabilities, 0.9)
    for row, p, chosen in zip([rows[0], *rows[2:]], answers.probabilities, sets, strict=True):
        assert [float(row[f"p_{c}"]) for c in range(4)] == pytest.approx(p.tolist(), abs=2e-6)
        assert int(row["label"]) == p.argmax()
        assert row["class_name"] == f"class {p.argmax()}"
        assert row["prediction_set"] == " ".join(str(c) for c in np.flatnonzero(chosen))
        assert row["is_ood"] in ("true", "false")
    assert "1 of 4 rows have no answer" in err
    assert "prediction sets hold the right class of 90.0%" in err


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_files_hold_the_same_rows(
    folder: Path, exported_model: Path, tmp_path: Path, suffix: str, capsys: Capture
) -> None:
    out_file = tmp_path / f"answers.{suffix}"
    status, out, _ = run_words([folder, "--model", exported_model, "--out", out_file, "--coverage", "1.0"], capsys)
    assert status == 1
    assert out.strip() == str(out_file)
    if suffix == "csv":
        rows = list(csv.DictReader(io.StringIO(out_file.read_text())))
    elif suffix == "json":
        whole = json.loads(out_file.read_text())
        assert whole["model"]["recipe"] == "nephros"
        assert "for research only, not for diagnosis" in whole["notes"]
        rows = whole["rows"]
        assert rows[1]["label"] is None
        assert rows[0]["is_ood"] in (True, False)
        assert [row["prediction_set"] for row in rows] == [[0, 1, 2, 3], None, [0, 1, 2, 3], [0, 1, 2, 3]]
        assert [row["error"] is None for row in rows] == [True, False, True, True]
        rows = [row | {"prediction_set": " ".join(map(str, row["prediction_set"] or []))} for row in rows]
    else:
        found = parquet.read_table(out_file)
        assert "notes" in json.loads(found.schema.metadata[b"nephros"])
        assert str(found.schema.field("p_3").type) == "float"
        rows = found.to_pylist()
    assert [row["prediction_set"] or "" for row in rows] == ["0 1 2 3", "", "0 1 2 3", "0 1 2 3"]
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1-broken.png", "1.png", "2.png"]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_names_that_are_no_text_are_written_all_the_same(
    exported_model: Path, tmp_path: Path, suffix: str, capsys: Capture
) -> None:
    root = tmp_path / "cells"
    root.mkdir()
    for name in (b"\xff.png", b"\xff.npz", b"a.\xff"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"broken")
    status, out, err = run_words([root, "--model", exported_model, "--out", tmp_path / f"o.{suffix}"], capsys)
    assert status == 2
    assert out.strip() == str(tmp_path / f"o.{suffix}")
    assert "2 of 2 rows have no answer" in err
    assert "1 without a suffix" in err


def test_exit_codes(folder: Path, exported_model: Path, tmp_path: Path, capsys: Capture) -> None:
    model = ["--model", exported_model]
    assert run_words([folder / "0.png", *model], capsys)[0] == 0
    status, out, err = run_words(
        [folder / "1-broken.png", folder / "none.png", *model, "--out", tmp_path / "o.csv"], capsys
    )
    assert status == 2
    assert out.strip() == str(tmp_path / "o.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o.csv").read_text())))
    assert [Path(row["file"]).name for row in rows] == ["1-broken.png", "none.png"]
    assert "1-broken.png is damaged" in rows[0]["error"]
    assert "none.png can't be read (it does not exist)" in rows[1]["error"]
    assert "2 of 2 rows have no answer" in err
    assert "1-broken.png is damaged" in err
    status, out, err = run_words([folder / "none.png", *model], capsys)
    assert status == 2
    assert "does not exist" in next(csv.DictReader(io.StringIO(out)))["error"]
    assert "1 of 1 rows have no answer" in err
    wrong: dict[tuple[object, ...], str] = {
        (): "needs pictures",
        (folder, "--model", tmp_path / "none.onnx"): "does not exist",
        (folder, "--out", "x.xlsx"): "must end in .csv, .json or .parquet",
        (folder, "--coverage", "90", *model): "--coverage is 90",
        (folder, "--white-level", "-1", *model): "--white-level is -1",
        (folder, "--covrage", "0.9"): "Did you mean '--coverage'",
        (folder, "--model-card"): "name a file for the table",
    }
    for words, expected in wrong.items():
        status, _, err = run_words([*words], capsys)
        assert status == 2
        assert expected in err
        assert len(err.strip().splitlines()) == 1


def test_the_card_is_printed_with_and_without_pictures(
    folder: Path, exported_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    status, out, _ = run_words(["--model-card", "--model", exported_model], capsys)
    assert status == 0
    assert json.loads(out) == Predictor.from_onnx(exported_model).card
    out_file = tmp_path / "o.csv"
    _, again, _ = run_words([folder / "0.png", "--model-card", "--model", exported_model, "--out", out_file], capsys)
    assert again == out
    assert out_file.exists()


def test_a_run_folder_answers_as_its_export_does(
    folder: Path, run_folder: RunFolder, exported_model: Path, capsys: Capture
) -> None:
    picture = folder / "0.png"
    status, first, err = run_words([picture, "--model", run_folder.root], capsys)
    assert status == 0
    assert "packaging it, once" in err
    status, again, err = run_words([picture, "--model", run_folder.root], capsys)
    assert "packaging" not in err
    assert again == first
    theirs = next(csv.DictReader(io.StringIO(run_words([picture, "--model", exported_model], capsys)[1])))
    ours = next(csv.DictReader(io.StringIO(first)))
    assert float(ours["p_0"]) == pytest.approx(float(theirs["p_0"]), abs=1e-5)


def test_a_missing_extra_names_its_command(
    folder: Path, exported_model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    _, _, err = run_words([folder, "--model", exported_model, "--out", tmp_path / "o.parquet"], capsys)
    assert "pip install 'nephros[parquet]'" in err


def test_from_python(folder: Path, exported_model: Path) -> None:
    found = nephros.predict([folder, folder / "0.png"], nephros.Predictor.from_onnx(exported_model), say=lambda _: None)
    assert len(found) == 5
    assert found.has_prediction.tolist() == [True, False, True, True, True]
    assert np.isnan(found.probabilities[1]).all()
    assert found.to_columns()["label"][0] == found.to_columns()["label"][4]


def test_the_terminal_shows_rows_and_counts(
    folder: Path, exported_model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "1-broken.png").rename(folder / "odd[red]\x1b[31m.png")
    found = nephros.predict(folder, exported_model)
    monkeypatch.setattr(predictions, "MAX_CONSOLE_ROWS", 3)
    predictions.print_predictions(found)
    out = capsys.readouterr().out
    assert "the first 3 of 4 rows" in out
    assert "class 3" in out
    assert "unfamiliar" in out
    predictions.print_predictions(nephros.predict(folder / "odd[red]\x1b[31m.png", exported_model))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "odd[red]?[31m.png" in out


def test_one_picture_needs_no_torch(folder: Path) -> None:
    probe = (
        "import sys\nfrom nephros.cli import main\n"
        f"try: main(['predict', {str(folder / '0.png')!r}])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"found = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(', '.join(found) or None)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("file,index,")


def test_a_reader_that_leaves_early_is_no_fault(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", images=square_images(1500, 4, 0)[0])
    command = f"{sys.executable} -m nephros predict {tmp_path / 'many.npz'} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("file,index")
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


@pytest.mark.slow
def test_on_a_real_terminal_there_is_a_table_and_a_bar(tmp_path: Path) -> None:
    for index, image in enumerate(square_images(600, 4, 0)[0]):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    command = [sys.executable, "-m", "nephros", "predict", str(tmp_path)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
    assert process.returncode == 0
    assert b"predicting" in shown
    assert b"the first 10 of 600 rows" in shown
    assert b"Leukocytes" in shown
