"""A study's page at every stage: sections, numbers, escaped names, no requests, and reproducible bytes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from nephros.data.provenance import ProvenanceRecord
from nephros.reporting.study import page
from nephros.reporting.study.page import write_study_report
from nephros.tuning.study_state import StudyState
from tests.reporting.study_simulator import BEST_METRICS, SimulationConfig, simulate
from tests.reporting.test_report_html import Page

SECTIONS = ["survival", "learning", "budget", "parallel", "importance", "configurations", "next", "reproduce"]
FIGURES = {"survival", "learning-curves", "epochs-spent", "parallel-coordinates", "importance"}


@pytest.fixture(autouse=True)
def few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shuffle the scores less often, as this takes most of a report's time."""
    monkeypatch.setattr("nephros.reporting.study.importance.N_SHUFFLES", 1)


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures blank."""

    def blank(figure: Figure, png_file: Path, alt: str) -> Markup:
        return Markup(f'<svg role="img" aria-label="{escape(alt)}"></svg>')

    monkeypatch.setattr("nephros.reporting.study.page.save_figure", blank)
    for name in [name for name in vars(page) if name.startswith("plot_")]:
        monkeypatch.setattr(page, name, lambda *_args: Figure())


def test_a_finished_study_has_every_section_and_figure_and_fetches_nothing(tmp_path: Path) -> None:
    file = write_study_report(simulate(SimulationConfig()), tmp_path)
    page = Page(file)
    assert file == tmp_path / "report.html"
    assert page.sections == SECTIONS
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")
    }
    for expected in (
        "61.2 %",
        "accuracy on the whole validation split, 23,640 images",
        "95% interval 60.6 to 61.9%",
        "configuration s3#22; in the study: 59.00% validation accuracy after 27 epochs",
        "357 of 357",
        "The test split has not been used.",
        "nephros train --from-study poster-search",
        "nephros tune poster --max-epochs 27 --name poster-search",
        "it trains 4 configurations to the end",
        "After 108 epochs the study's best was 59.0%, random search's 56.8%.",
        "Of the 27 configurations of bracket s = 3 after 1 epoch",
        "20,000 training images and a quarter as many validation images",
        "s = 3: 27 at 1, 9 at 3, 3 at 9, 1 at 27",
        "random, seed 7",
        "nephros 0.2.0, torch 2.13.0",
        "ab" * 32,
        "is not the published file",
    ):
        assert expected in page.text, expected
    assert "--resume" not in page.text
    for tag, address in page.urls:
        assert address.startswith("#"), (tag, address)
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert page.source.count("<script>") == page.source.count("<script") == 1  # it sorts the table, and loads nothing
    assert "@import" not in page.source
    assert not re.search(r"url\((?!#)", page.source)
    assert all(page.header_scopes)
    assert all("squares" in expected.lower() or "own split" in expected for expected in (*page.alts, *page.captions))
    assert page.tags.count("h1") == 1
    assert page.source.count("<tr class=") == 49


SHAPES = pytest.mark.parametrize(
    ("plan", "epochs", "missing"),
    [
        (SimulationConfig(), 0, {"learning", "budget", "parallel", "importance"}),
        (SimulationConfig(), 5, {"budget", "importance"}),
        (SimulationConfig(fail_rate=0.1, early_stop_rate=0.2), 130, set()),
        (SimulationConfig(brackets="s=3", sampler="tpe"), None, set()),
        (SimulationConfig(max_epochs=1), None, {"importance"}),
        (SimulationConfig(metric="val_loss", fail_rate=0.1, early_stop_rate=0.2), None, set()),
        (SimulationConfig(metric="val_auc", brackets="s=0"), None, {"importance"}),
        (
            SimulationConfig(
                max_epochs=8, eta=2, metric="val_macro_f1", space={"optimizer.nesterov": {"choices": [False]}}
            ),
            None,
            {"importance"},
        ),
        (SimulationConfig(max_epochs=9, fail_rate=1.0), None, {"importance"}),
    ],
    ids=["nothing", "first", "running", "one-bracket", "one-epoch", "loss", "random", "one-choice", "all-fail"],
)


@SHAPES
@pytest.mark.usefixtures("no_drawing")
def test_every_stage_and_shape_of_a_study_has_its_page(
    plan: SimulationConfig, epochs: int | None, missing: set[str], tmp_path: Path
) -> None:
    study_state = simulate(plan, epochs)
    page = Page(write_study_report(study_state, tmp_path))
    failures = ["failures"] if any(config.state == "failed" for config in study_state.configs.values()) else []
    assert [section for section in page.sections if section != "failures"] == [
        section for section in SECTIONS if section not in missing
    ]
    assert ("failures" in page.sections) == bool(failures)
    assert all(page.alts)
    assert "nan" not in page.text.split()
    assert "None" not in page.text.split()


@SHAPES
@pytest.mark.slow
def test_every_stage_and_shape_of_a_study_can_be_drawn(
    plan: SimulationConfig, epochs: int | None, missing: set[str], tmp_path: Path
) -> None:
    study_state = simulate(plan, epochs)
    write_study_report(study_state, tmp_path)
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert ("learning-curves" in drawn) == ("learning" not in missing)
    assert ("epochs-spent" in drawn) == (study_state.best is not None)


@pytest.mark.usefixtures("no_drawing")
def test_a_running_study_says_so_and_how_to_resume(tmp_path: Path) -> None:
    page = Page(write_study_report(simulate(SimulationConfig(), 130), tmp_path))
    assert "This study has not finished: 130 of 357 epochs are trained." in page.text
    assert "nephros tune --resume poster-search" in page.text
    assert "nephros train --from-study poster-search" in page.text
    assert "validation accuracy, best so far" in page.text
    assert "on the whole validation split" not in page.text
    first_page = Page(write_study_report(simulate(SimulationConfig(), 5), tmp_path))
    assert "No rung is complete yet, so there is no best configuration." in first_page.text
    assert "--from-study" not in first_page.text
    assert "budget" not in first_page.sections


@pytest.mark.usefixtures("no_drawing")
def test_the_table_lists_all_configurations_and_failures_have_reasons(tmp_path: Path) -> None:
    page = Page(write_study_report(simulate(SimulationConfig(fail_rate=0.3)), tmp_path))
    assert page.source.count("<tr class=") == 49
    assert "The loss became NaN." in page.text
    assert "The device is out of memory." in page.text
    assert "failed after" in page.text


@pytest.mark.usefixtures("no_drawing")
def test_a_best_score_after_fewer_epochs_is_noted(tmp_path: Path) -> None:
    study_state = simulate(SimulationConfig(brackets="s=3"))
    best = study_state.configs[3, 22]
    early = replace(best, values={**best.values, 9: 0.8})
    page = Page(
        write_study_report(
            StudyState(study_state.settings, {**study_state.configs, (3, 22): early}, BEST_METRICS), tmp_path
        )
    )
    assert "The best score was reached after 9 epochs, not after all 27: its later scores were no better." in page.text


@pytest.mark.slow
def test_every_file_table_and_figure_says_synthetic(tmp_path: Path) -> None:
    file = write_study_report(simulate(SimulationConfig(max_epochs=9, split="synthetic")), tmp_path)
    page = Page(file)
    assert file.name == "synthetic-report.html"
    files = list((tmp_path / "figures").iterdir())
    assert files
    assert all(path.name.startswith("synthetic-") for path in files)
    for path in files:
        if path.suffix == ".svg":
            assert "Generated cells, synthetic</text>" in path.read_text(encoding="utf-8")
    assert all("synthetic" in text for text in (*page.captions, *page.alts))
    assert "no number here says anything about kidneys" in page.text


def test_names_and_errors_are_escaped(tmp_path: Path) -> None:
    study_state = simulate(SimulationConfig(max_epochs=3), name="a <b>'$x$")
    failed_config = replace(
        study_state.configs[0, 0], state="failed", values={}, error="<script>alert(1)</script> $x^$"
    )
    data: ProvenanceRecord = {**study_state.settings.data, "title": "<img src=x> & co, own split"}
    settings = replace(study_state.settings, data=data)
    page = Page(write_study_report(StudyState(settings, {**study_state.configs, (0, 0): failed_config}), tmp_path))
    assert "img" not in page.tags
    assert page.source.count("<script") == 1
    assert "a <b>" not in page.source
    assert "&lt;script&gt;" in page.source
    assert """nephros train --from-study 'a <b>'"'"'$x$'""" in page.text


@pytest.mark.slow
def test_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    def written_files(folder: Path) -> dict[str, bytes]:
        study_state = simulate(SimulationConfig(max_epochs=9, fail_rate=0.1))
        shuffled = dict(reversed(list(study_state.configs.items()))) if folder.name == "two" else study_state.configs
        write_study_report(StudyState(study_state.settings, shuffled, study_state.best_metrics), folder)
        return {file.name: file.read_bytes() for file in [folder / "report.html", *(folder / "figures").iterdir()]}

    first = written_files(tmp_path / "one")
    assert len(first) == 9  # of so few configurations no importance is shown
    assert written_files(tmp_path / "two") == first
