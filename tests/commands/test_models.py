"""`nephros models`: what comes with nephros, with the figures of its cards."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from nephros.cli import main
from nephros.inference.bundled import DEFAULT_MODEL, bundled_float32_file, bundled_names
from nephros.inference.model_names import bundled_card, bundled_model_name, pretrained_names


def test_the_table_has_the_figures_of_the_cards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "models.csv"
    with pytest.raises(SystemExit) as exit_info:
        main(["models", "--out", str(out)])
    assert exit_info.value.code == 0
    rows = {row["name"]: row for row in csv.DictReader(out.read_text().splitlines())}
    assert list(rows) == list(bundled_names())
    printed = capsys.readouterr().out
    assert max(map(len, printed.split(str(out))[0].splitlines())) <= 80
    for name, row in rows.items():
        card = bundled_card(name)
        assert name in printed
        assert float(row["val_accuracy"]) == pytest.approx(card["validation"]["accuracy"], abs=5e-5)
        assert float(row["test_accuracy"]) == pytest.approx(card["test_accuracy"], abs=5e-5)
        assert int(row["parameters"]) == card["network"]["parameters"]


def test_each_name_stands_for_the_weights_of_one_bundled_model() -> None:
    assert bundled_names()[0] == DEFAULT_MODEL
    assert bundled_model_name("bundled") == DEFAULT_MODEL
    assert bundled_model_name("course-1") is None
    for name in pretrained_names():
        bundled = bundled_model_name(name)
        assert bundled in bundled_names()
        assert bundled_float32_file(bundled).stat().st_size > 100_000
    assert all(bundled_model_name(name) == name for name in bundled_names())
