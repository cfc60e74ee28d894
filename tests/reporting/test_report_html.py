"""The page: every section, its words and caveats, escaped names, nothing fetched, and the same bytes again."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from nephros.data.dataset import Dataset
from nephros.errors import NephrosError
from nephros.evaluation.scoring import Evaluation
from nephros.reporting.run.page import write_report
from nephros.runs import RunFolder
from nephros.workflows.report import report

MakeRun = Callable[..., tuple[RunFolder, Dataset]]
SECTIONS = [
    "confusion",
    "roc",
    "classes",
    "errors",
    "calibration",
    "learning",
    "class-balance",
    "splits",
    "published",
    "reproduce",
]


class Page(HTMLParser):
    """What the tests look at in a page: its text, sections, addresses, captions and pictures."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.urls: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.captions: list[str] = []
        self.alts: list[str] = []
        self.header_scopes: list[str | None] = []
        self.texts: list[str] = []
        self.source = file.read_text(encoding="utf-8")
        self.feed(self.source)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag == "section":
            self.sections.append(attributes["id"] or "")
        if tag == "th":
            self.header_scopes.append(attributes.get("scope"))
        if tag in ("img", "svg"):
            self.alts.append(attributes.get("alt") or attributes.get("aria-label") or "")
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            if attributes.get(name):
                self.urls.append((tag, str(attributes[name])))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["caption"] and data.strip():
            self.captions.append(data)
        if self.tags[-1:] != ["style"]:
            self.texts.append(data)


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make figures but do not draw them: for tests of the words around them, which would take a minute otherwise."""

    def blank(figure: Figure, png_file: Path, alt: str) -> Markup:
        return Markup(f'<svg role="img" aria-label="{escape(alt)}"></svg>')

    monkeypatch.setattr("nephros.reporting.run.run_figures.save_figure", blank)


def page_of(run: tuple[RunFolder, Dataset], **options: Any) -> Page:
    folder, dataset = run
    return Page(write_report(folder, options.get("dataset", dataset)))


def test_a_finished_run_has_every_section_and_number_and_fetches_nothing(make_run: MakeRun) -> None:
    run = make_run(key="tissuemnist")
    page = page_of(run)
    assert page.sections == SECTIONS
    text = page.text
    for text_expected in (
        "accuracy on test , 180 cells",
        "On validation: accuracy",
        "The test split has been read once.",
        "123,456",
        "7,890,123 an image",
        "nephros train little --data x.npz",
        "ab" * 32,
        "1.2 minutes",
        "CPU, 2 threads",
        "epoch 3 of 3",
        "not in a git checkout",
        "weight_decay: 0.0",
        "nephros 0.1.0, python 3.11",
    ):
        assert text_expected in text, text_expected
    for tag, url in page.urls:  # nothing is fetched
        assert url.startswith(("#", "data:")) or (tag == "a" and url.startswith("https://")), (tag, url)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "@import" not in page.source
    assert not re.search(r"url\((?!#)", page.source)
    assert all(page.header_scopes)
    assert all(page.alts)
    assert page.tags.count("h1") == 1


@pytest.mark.usefixtures("no_drawing")
def test_both_headline_splits_show_their_own_intervals(make_run: MakeRun) -> None:
    run = make_run()
    page = page_of(run)
    for split in ("test", "val"):
        m = Evaluation.load(run[0].file(split, "metrics.json"), run[0].file(split, "predictions.npz")).metrics
        low, high = m["accuracy_interval"]["low"], m["accuracy_interval"]["high"]
        assert f"{100 * low:.1f} to {100 * high:.1f} %" in page.text
        assert f"{m['accuracy']:.4f}" in page.text
        assert f"{m['loss']:.4f}" in page.text


def test_names_from_outside_are_escaped(make_run: MakeRun) -> None:
    names = ("<script>alert(1)</script>", '$x^$ & "q" \'', "bell \x07 </svg><img src=x>")
    page = page_of(make_run(names, command="nephros train '<b>'"))
    assert "script" not in page.tags
    assert page.tags.count("img") == 3
    assert "<script>" not in page.source
    assert "<img src=x" not in page.source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.source
    assert "bell \ufffd" in page.text
    assert "nephros train &#39;&lt;b&gt;&#39;" in page.source


def test_synthetic_is_said_in_every_file_table_and_figure(make_run: MakeRun) -> None:
    folder, dataset = make_run(("round", "oval"), split="synthetic")
    file = write_report(folder, dataset)
    page = Page(file)
    assert file.name == "synthetic-report.html"
    files = list((folder.root / "figures").iterdir())
    stems = ["class-balance", "confusion-matrix", "learning-curves", "reliability", "roc", "errors-00", "errors-01"]
    assert {path.name for path in files} == {f"synthetic-{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert page.tags.count("svg") == len(stems)
    for path in files:
        if path.suffix == ".svg":
            assert "Made-up cells, synthetic</text>" in path.read_text(encoding="utf-8")
    assert page.captions
    for text in (*page.captions, *page.alts):
        assert "synthetic" in text
    assert "synthetic cells" in page.text
    assert "no number here says anything about kidneys" in page.text


@pytest.mark.usefixtures("no_drawing")
def test_published_results_stand_beside_tissuemnist_only(make_run: MakeRun) -> None:
    page = page_of(make_run(key="tissuemnist", split="official"))
    for text in (
        "AutoKeras",
        "0.7030",
        "MedViTV2-L",
        "checkpoint picked on the test split",
        "this run: little",
        "official test",
    ):
        assert text in page.text
    assert "Not the same cells" not in page.text
    other = page_of(make_run(root="other"))
    assert "AutoKeras" not in other.text
    assert "Published results are at hand for TissueMNIST only" in other.text
    assert "this run: little" not in other.text


@pytest.mark.usefixtures("no_drawing")
def test_another_split_and_a_run_without_test_carry_their_caveats(make_run: MakeRun) -> None:
    page = page_of(make_run(key="tissuemnist", scored=("train", "val")))
    assert "it is not the published file: its split is another" in page.text
    assert "Not the same cells:" in page.text
    assert "Only validation was read:" in page.text
    assert "The test split has not been scored." in page.text
    assert "The test split has never been read." in page.text
    assert "accuracy on validation , 120 cells" in page.text
    tested = page_of(make_run(key="tissuemnist", split="official", root="tested"))
    for text in ("is not the published file", "Only validation was read", "has not been scored"):
        assert text not in tested.text


@pytest.mark.usefixtures("no_drawing")
def test_warnings_and_repeated_readings_are_said(make_run: MakeRun) -> None:
    folder, dataset = make_run(warnings=["Validation lacks the class heart."])
    reads = folder.file("test", "reads.jsonl")
    reads.write_text(reads.read_text() * 3, encoding="utf-8")
    page = page_of((folder, dataset))
    assert "Validation lacks the class heart." in page.text
    assert "The test split has been read 3 times" in page.text
    assert "Readings of the test split: 3" in page.text


@pytest.mark.usefixtures("no_drawing")
def test_a_missing_class_is_said_wherever_it_would_stand(make_run: MakeRun) -> None:
    page = page_of(make_run(missing=1))
    assert "The test split lacks Leukocytes: macro figures are means over the other classes." in page.text
    assert "No such cells in test." in page.text


@pytest.mark.usefixtures("no_drawing")
def test_two_and_eleven_classes_and_colour(make_run: MakeRun) -> None:
    two = page_of(make_run(("malignant", "normal, benign"), root="two"))
    assert two.sections == SECTIONS
    eleven = page_of(make_run(tuple(f"organ {c}" for c in range(11)), channels=3, root="eleven"))
    assert eleven.sections == SECTIONS
    assert "brightness is stretched" in two.text
    assert "brightness is stretched" not in eleven.text
    assert eleven.tags.count("img") == 11


@pytest.mark.usefixtures("no_drawing")
def test_no_mistakes_at_all(make_run: MakeRun) -> None:
    folder, dataset = make_run(separation=99)
    page = page_of((folder, dataset))
    assert page.text.count("No mistakes: all 60 called rightly") == 3
    assert page.tags.count("svg") == 5


@pytest.mark.usefixtures("no_drawing")
def test_pictures_of_an_earlier_report_are_swept(make_run: MakeRun) -> None:
    folder, dataset = make_run(separation=99)
    (folder.root / "figures").mkdir()
    stale, unrelated = folder.file("figures", "errors-02.png"), folder.file("figures", "mine.png")
    for file in (stale, unrelated):
        file.write_bytes(b"x")
    write_report(folder, dataset)
    assert not stale.exists()
    assert unrelated.exists()


@pytest.mark.usefixtures("no_drawing")
def test_without_the_data_only_the_cells_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    folder, dataset = make_run()
    page = Page(write_report(folder))
    assert "Pictures of cells are left out: the run was trained on data given in Python" in page.text
    assert page.sections == SECTIONS
    assert page.tags.count("svg") == 5
    assert "img" not in page.tags
    gone = {"source": str(tmp_path / "gone.npz"), "size": None, "subset": None, "seed": 0}
    folder, dataset = make_run(root="gone", data_request=gone)
    assert "Pictures of cells are left out: the data is not at hand (" in Page(write_report(folder)).text
    changed = {**dataset.provenance.to_dict(), "sha256": "cd" * 32}
    folder, dataset = make_run(root="changed", data=changed)
    assert "its SHA-256 is another" in page_of((folder, dataset)).text


@pytest.mark.usefixtures("no_drawing")
def test_predictions_of_other_labels_get_no_pictures(make_run: MakeRun) -> None:
    folder, dataset = make_run()
    dataset.test.labels[:] = np.roll(dataset.test.labels, 1)
    assert "the saved predictions are not of the data's test split" in page_of((folder, dataset)).text


@pytest.mark.usefixtures("no_drawing")
def test_an_interrupted_run_shows_its_history(make_run: MakeRun) -> None:
    folder, _ = make_run(scored=(), status="training", history=2)
    page = Page(report(folder.root))
    assert page.sections == ["learning", "class-balance", "reproduce"]
    assert "This run has not finished: 2 of 5 epochs are over." in page.text
    assert "after epoch 2 of 5; the run has not finished" in page.text
    assert "accuracy on validation" in page.text
    assert "the diamond is" not in page.text


def test_a_run_with_nothing_to_show_says_how_to_go_on(make_run: MakeRun) -> None:
    folder, _ = make_run(scored=(), status="training", history=0)
    with pytest.raises(NephrosError, match=r"nothing to report yet.*--resume"):
        report(folder.root)
    assert not folder.file("report.html").exists()


@pytest.mark.usefixtures("no_drawing")
def test_an_auc_that_could_not_be_computed_is_a_dash(make_run: MakeRun) -> None:
    folder, dataset = make_run()
    file = folder.file("test", "metrics.json")
    file.write_text(re.sub(r'"auc": [\d.]+', '"auc": null', file.read_text(encoding="utf-8")), encoding="utf-8")
    page = page_of((folder, dataset))
    assert "Mean area \N{EN DASH} ." in page.text


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun) -> None:
    folder, dataset = make_run(("one", "two"))

    def everything() -> dict[str, bytes]:
        write_report(folder, dataset)
        files = [folder.file("report.html"), *(folder.root / "figures").iterdir()]
        return {file.name: file.read_bytes() for file in files}

    first = everything()
    assert len(first) == 15
    assert everything() == first


def test_damaged_results_are_named(make_run: MakeRun) -> None:
    folder, dataset = make_run()
    folder.file("train", "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(NephrosError, match=r"train.metrics\.json is damaged"):
        write_report(folder, dataset)
