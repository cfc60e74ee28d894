"""nephros predict: tables in every format, exit codes, terminal output, and no torch on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image

import nephros
from nephros.cli import main
from nephros.commands import predict as predict_command
from nephros.errors import InvalidArgument
from nephros.escaping import unescape_from_csv
from nephros.inference.prediction_files import write_csv
from nephros.inference.predictor import Predictor
from nephros.runs import RunFolder
from nephros.workflows.predict import merge_notes
from tests.conftest import square_images

Capture = pytest.CaptureFixture[str]
HEAVY = ("torch", "pandas", "matplotlib", "sklearn", "scipy", "onnx")


def run_predict(arguments: list[object], capsys: Capture) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["predict", *map(str, arguments)])
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


def test_csv_on_a_pipe_has_a_row_per_input(
    folder: Path, exported_model: Path, predictor: Predictor, capsys: Capture
) -> None:
    status, out, err = run_predict([folder, "--model", exported_model], capsys)
    assert status == 1
    rows = list(csv.DictReader(io.StringIO(out)))
    columns = "file index split label class_name p_0 p_1 p_2 p_3 prediction_set is_ood ood_reasons error"
    assert list(rows[0]) == columns.split()
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1-broken.png", "1.png", "2.png"]
    assert "1-broken.png is damaged" in rows[1]["error"]
    assert rows[1]["label"] == rows[1]["p_0"] == rows[1]["is_ood"] == ""
    batch = predictor.predict_batch(square_images(3, 4, 9)[0])
    sets = predictor.prediction_sets(batch.probabilities, 0.9)
    for row, p, in_set in zip([rows[0], *rows[2:]], batch.probabilities, sets, strict=True):
        assert [float(row[f"p_{c}"]) for c in range(4)] == pytest.approx(p.tolist(), abs=2e-6)
        assert int(row["label"]) == p.argmax()
        assert row["class_name"] == f"class {p.argmax()}"
        assert row["prediction_set"] == " ".join(str(c) for c in np.flatnonzero(in_set))
        assert row["is_ood"] in ("true", "false")
    assert "no prediction for 1 of 4 rows" in err
    assert "90% of cells" in err


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_files_have_the_same_rows_in_every_format(
    folder: Path, exported_model: Path, tmp_path: Path, suffix: str, capsys: Capture
) -> None:
    out_file = tmp_path / f"predictions.{suffix}"
    status, out, _ = run_predict([folder, "--model", exported_model, "--out", out_file, "--coverage", "1.0"], capsys)
    assert status == 1
    assert out.strip() == str(out_file)
    if suffix == "csv":
        rows = list(csv.DictReader(io.StringIO(out_file.read_text())))
    elif suffix == "json":
        document = json.loads(out_file.read_text())
        assert document["model"]["recipe"] == "nephros"
        assert "for research only, not for diagnosis" in document["notes"]
        rows = document["rows"]
        assert rows[1]["label"] is None
        assert rows[0]["is_ood"] in (True, False)
        assert [row["prediction_set"] for row in rows] == [[0, 1, 2, 3], None, [0, 1, 2, 3], [0, 1, 2, 3]]
        assert [row["error"] is None for row in rows] == [True, False, True, True]
        assert all(isinstance(row["ood_reasons"], list) for row in rows)
        rows = [row | {"prediction_set": " ".join(map(str, row["prediction_set"] or []))} for row in rows]
    else:
        table = parquet.read_table(out_file)
        assert "notes" in json.loads(table.schema.metadata[b"nephros"])
        assert str(table.schema.field("p_3").type) == "float"
        rows = table.to_pylist()
    assert [row["prediction_set"] or "" for row in rows] == ["0 1 2 3", "", "0 1 2 3", "0 1 2 3"]
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1-broken.png", "1.png", "2.png"]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_file_names_that_are_not_utf8_are_written(
    exported_model: Path, tmp_path: Path, suffix: str, capsys: Capture
) -> None:
    root = tmp_path / "cells"
    root.mkdir()
    for name in (b"\xff.png", b"\xff.npz", b"a.\xff"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"broken")
    status, out, err = run_predict([root, "--model", exported_model, "--out", tmp_path / f"o.{suffix}"], capsys)
    assert status == 2
    assert out.strip() == str(tmp_path / f"o.{suffix}")
    assert "no prediction for 2 of 2 rows" in err
    assert "1 without a suffix" in err


def test_file_names_that_are_not_utf8_stay_apart(folder: Path, exported_model: Path, capsys: Capture) -> None:
    names = (b"caf\xe8.png", b"caf\xe9.png")
    for name in names:
        shutil.copy(folder / "0.png", folder / os.fsdecode(name))
    _, out, _ = run_predict([folder, "--model", exported_model], capsys)
    files = [row["file"] for row in csv.DictReader(io.StringIO(out))]
    assert [Path(file).name for file in files][-2:] == ["caf\\udce8.png", "caf\\udce9.png"]


@pytest.mark.slow
def test_a_table_on_a_pipe_is_whole_in_any_locale(folder: Path, exported_model: Path) -> None:
    (folder / "1-broken.png").unlink()
    (folder / "0.png").rename(folder / "müller.png")
    command = [sys.executable, "-m", "nephros", "predict", str(folder), "--model", str(exported_model)]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    completed = subprocess.run(command, env=env, capture_output=True, check=False)
    assert completed.returncode == 0, completed.stderr
    rows = list(csv.DictReader(io.StringIO(completed.stdout.decode("utf-8"))))
    assert [Path(row["file"]).name for row in rows] == ["1.png", "2.png", "müller.png"]


def test_options_of_stacks_that_had_no_effect_are_named(folder: Path, exported_model: Path, capsys: Capture) -> None:
    arguments = [folder / "0.png", "--model", exported_model, "--axes", "QQ", "--level", "2"]
    _, _, err = run_predict(arguments, capsys)
    assert "note: --axes and --level had no effect: no input is a stack" in err
    assert "had no effect" not in run_predict(arguments[:3], capsys)[2]


def test_the_exit_status_says_how_many_inputs_were_predicted(
    folder: Path, exported_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    model = ["--model", exported_model]
    assert run_predict([folder / "0.png", *model], capsys)[0] == 0
    status, out, err = run_predict(
        [folder / "1-broken.png", folder / "none.png", *model, "--out", tmp_path / "o.csv"], capsys
    )
    assert status == 2
    assert out.strip() == str(tmp_path / "o.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o.csv").read_text())))
    assert [Path(row["file"]).name for row in rows] == ["1-broken.png", "none.png"]
    assert "1-broken.png is damaged" in rows[0]["error"]
    assert "does not exist" in rows[1]["error"]
    assert "no prediction for 2 of 2 rows" in err
    assert "1-broken.png is damaged" in err
    status, out, err = run_predict([folder / "none.png", *model], capsys)
    assert status == 2
    assert "does not exist" in next(csv.DictReader(io.StringIO(out)))["error"]
    assert "no prediction for 1 of 1 rows" in err


def test_errors_of_the_command_are_one_line_about_its_flags(
    folder: Path, exported_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    model = ["--model", exported_model]
    expected_by_arguments: dict[tuple[object, ...], str] = {
        (): "needs images",
        (folder, "--model", tmp_path / "none.onnx"): "does not exist",
        (folder, "--out", "x.xlsx"): "--out is x.xlsx, but it must be a file that ends in .csv, .json or .parquet",
        (folder, "--coverage", "90", *model): "--coverage is 90",
        (folder, "--white-level", "-1", *model): "--white-level is -1",
        (folder, "--covrage", "0.9"): "Did you mean '--coverage'",
        (folder, "--model-card"): "--out",
    }
    for arguments, expected in expected_by_arguments.items():
        status, _, err = run_predict([*arguments], capsys)
        assert status == 2
        assert expected in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [{"coverage": 0.0}, {"coverage": 90}, {"white_level": -1}, {"white_level": float("nan")}]
)
def test_invalid_arguments_are_named(arguments: dict[str, Any], folder: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        nephros.predict(folder, **arguments)
    assert {caught.value.parameter} == set(arguments)


def test_the_card_is_printed_with_and_without_inputs(
    folder: Path, exported_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    status, out, _ = run_predict(["--model-card", "--model", exported_model], capsys)
    assert status == 0
    assert json.loads(out) == Predictor.from_onnx(exported_model).card
    out_file = tmp_path / "o.csv"
    _, again, _ = run_predict([folder / "0.png", "--model-card", "--model", exported_model, "--out", out_file], capsys)
    assert again == out
    assert out_file.exists()


def test_an_unexported_run_folder_predicts_as_its_export_does(
    folder: Path, run_folder: RunFolder, exported_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    unexported = shutil.ignore_patterns("export")
    image, run = folder / "0.png", shutil.copytree(run_folder.root, tmp_path / "run", ignore=unexported)
    status, out, err = run_predict([image, "--model", run], capsys)
    assert status == 0
    assert f"{run} has no exported model yet" in err
    assert (run / "export" / "model.safetensors").exists()
    expected = next(csv.DictReader(io.StringIO(run_predict([image, "--model", exported_model], capsys)[1])))
    row = next(csv.DictReader(io.StringIO(out)))
    assert float(row["p_0"]) == pytest.approx(float(expected["p_0"]), abs=1e-5)


def test_parquet_without_pyarrow_names_the_extra(
    folder: Path, exported_model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    _, _, err = run_predict([folder, "--model", exported_model, "--out", tmp_path / "o.parquet"], capsys)
    assert "pip install 'nephros[parquet]'" in err


def test_rows_and_columns_in_python(folder: Path, exported_model: Path) -> None:
    predictions = nephros.predict([folder, folder / "0.png"], nephros.Predictor.from_onnx(exported_model))
    assert len(predictions) == 5
    assert predictions.has_prediction.tolist() == [True, False, True, True, True]
    assert np.isnan(predictions.probabilities[1]).all()
    assert predictions.to_columns()["label"][0] == predictions.to_columns()["label"][4]
    first, broken, *_ = predictions.rows()
    label = int(predictions.probabilities[0].argmax())
    assert (first.label, first.class_name) == (label, predictions.class_names[label])
    assert first.prediction_set == np.flatnonzero(predictions.prediction_sets[0]).tolist()
    assert first.error is None
    assert broken.error == predictions.errors[1]
    assert (broken.label, broken.probabilities, broken.is_ood) == (None, None, None)


def test_the_terminal_shows_rows_and_counts(
    folder: Path, exported_model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "1-broken.png").rename(folder / "odd[red]\x1b[31m.png")
    predictions = nephros.predict(folder, exported_model)
    monkeypatch.setattr(predict_command, "MAX_CONSOLE_ROWS", 3)
    predict_command.print_predictions(predictions)
    out = capsys.readouterr().out
    assert "first 3 of 4 rows" in out
    assert "class 3" in out
    assert "out of distribution" in out
    predict_command.print_predictions(nephros.predict(folder / "odd[red]\x1b[31m.png", exported_model))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"odd[red]\u001b[31m.png" in out


@pytest.mark.parametrize(
    "name",
    ["=HYPERLINK(0).png", "+1+cmd.png", "-2+3.png", "@SUM(A1).png", " =1.png", "a;=1+1.png", "'=1.png", "\uff1d1.png"],
)
def test_no_cell_of_a_csv_file_is_a_formula(
    name: str, tmp_path: Path, exported_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    predictor = Predictor.from_onnx(exported_model)
    predictor.class_names = tuple(f"=cmd|{c}" for c in range(4))
    Image.fromarray(square_images(1, 4, 0)[0][0]).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    predictions = nephros.predict(name, predictor)
    text = io.StringIO()
    write_csv(predictions, text)
    (row,) = csv.DictReader(io.StringIO(text.getvalue()))
    assert row["file"] != name
    assert unescape_from_csv(row["file"]) == name
    assert row["class_name"].startswith("'=cmd|")
    assert float(row["p_0"]) >= 0
    (row,) = csv.DictReader(io.StringIO(text.getvalue()), delimiter=";", restkey="rest")
    assert not [cell for cell in row.get("rest", []) if cell.startswith("=")]


def test_the_card_on_a_terminal_is_text_and_still_json(
    exported_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    predictor = Predictor.from_onnx(exported_model)
    names = ["a\x9b31mb", "\u202etxt", "\x1b]0;title\x07", "\U000e0041"]
    predictor.card["class_names"] = names
    monkeypatch.setattr("nephros.exporters.loading.load_classifier", lambda _model, **_options: predictor)
    status, out, _ = run_predict(["--model-card"], capsys)
    assert status == 0
    assert all(line.isprintable() for line in out.splitlines())
    assert json.loads(out)["class_names"] == names


def test_one_image_needs_no_torch(folder: Path) -> None:
    probe = (
        "import sys\nfrom nephros.cli import main\n"
        f"try: main(['predict', {str(folder / '0.png')!r}])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(', '.join(loaded) or None)"
    )
    completed = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.startswith("file,index,")


@pytest.mark.slow
def test_a_reader_that_stops_early_causes_no_error(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", images=square_images(1500, 4, 0)[0])
    command = f"{sys.executable} -m nephros predict {tmp_path / 'many.npz'} | head -1"
    completed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert completed.stdout.startswith("file,index")
    assert "Traceback" not in completed.stderr
    assert "Broken pipe" not in completed.stderr


@pytest.mark.slow
def test_a_real_terminal_shows_a_table_and_a_progress_bar(tmp_path: Path) -> None:
    for index, image in enumerate(square_images(600, 4, 0)[0]):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    our_end, their_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    command = [sys.executable, "-m", "nephros", "predict", str(tmp_path)]
    with subprocess.Popen(command, stdout=their_end, stderr=their_end, env=environment) as process:
        os.close(their_end)
        output = b""
        while True:
            try:
                chunk = os.read(our_end, 65536)
            except OSError:
                break
            if not chunk:
                break
            output += chunk
    assert process.returncode == 0
    assert b"predicting" in output
    assert b"first 10 of 600 rows" in output
    assert b"Leukocytes" in output


def test_notes_that_say_the_same_of_several_stacks_are_one() -> None:
    stacks = [f"K{number}.tif" for number in range(9)]
    notes = [note for stack in stacks for note in (f"{stack} has 3 nuclei", f"{stack}: nothing was resampled")]
    merged = merge_notes([*notes, "K4.tif: odd", "for all"], stacks)
    assert len(merged) == 9 + 3
    assert merged[0] == "K0.tif has 3 nuclei"
    assert merged[1] == "K0.tif, K1.tif, K2.tif and 6 more: nothing was resampled"
    assert merged[-2:] == ["K4.tif: odd", "for all"]
