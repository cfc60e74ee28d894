"""The report: its sections, metrics and caveats; escaped names, no external resources, and reproducible bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.errors import FileError, IncompleteError
from nephros.evaluation.metrics import compute_metrics
from nephros.evaluation.scoring import Evaluation
from nephros.reporting.run.mistakes import thumbnail
from nephros.reporting.run.page import write_report
from nephros.runs import RunFolder
from nephros.workflows.report import report

MakeRun = Callable[..., tuple[RunFolder, Dataset]]
SECTIONS = [
    "confusion",
    "curves",
    "classes",
    "errors",
    "calibration",
    "class-balance",
    "learning",
    "splits",
    "published",
    "next",
    "reproduce",
]
OTHER_DATA_SECTIONS = [section for section in SECTIONS if section != "published"]  # nothing is published on it


class Page(HTMLParser):
    """The parts of a page that the tests check: its text, sections, caveats, addresses, captions and images."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.caveats: list[str] = []
        self._in_caveats = False
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
        self._in_caveats |= attributes.get("role") == "note"
        if tag == "li" and self._in_caveats:
            self.caveats.append("")
        if tag == "section":
            self.sections.append(attributes["id"] or "")
        if tag == "th":
            self.header_scopes.append(attributes.get("scope"))
        if tag in ("img", "svg"):
            self.alts.append(attributes.get("alt") or attributes.get("aria-label") or "")
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            if attributes.get(name):
                self.urls.append((tag, str(attributes[name])))

    def handle_endtag(self, tag: str) -> None:
        self._in_caveats &= tag != "ul"

    def handle_data(self, data: str) -> None:
        if self._in_caveats and self.caveats and data.strip():
            self.caveats[-1] += data
        if self.tags[-1:] == ["caption"] and data.strip():
            self.captions.append(data)
        if self.tags[-1:] not in (["style"], ["script"]):
            self.texts.append(data)


def page_of(run: tuple[RunFolder, Dataset], **options: Any) -> Page:
    folder, dataset = run
    return Page(write_report(folder, options.get("dataset", dataset)))


def test_a_finished_run_has_every_section_and_number_and_no_external_resources(make_run: MakeRun) -> None:
    run = make_run(key="tissuemnist")
    page = page_of(run)
    assert page.sections == SECTIONS
    text = page.text
    for text_expected in (
        "accuracy on test , 180 images",
        "On validation: accuracy",
        "123,456",
        "7,890,123 per image",
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
def test_the_header_says_what_it_was_trained_on_and_gives_two_yardsticks(make_run: MakeRun) -> None:
    page = page_of(make_run())
    header = page.source[page.source.index("<header") : page.source.index("<nav")]
    for text in ("300 training images", "3 epochs", "1.2 minutes", "CPU, 2 threads"):
        assert f"<span>{text}</span>" in header
    assert "Always the largest class 33.3 % (Podocytes)" in page.text.replace("33.3%", "33.3 %")
    assert "Classes never predicted none of 3" in page.text


@pytest.mark.usefixtures("no_drawing")
def test_classes_never_predicted_are_named(make_run: MakeRun) -> None:
    folder, dataset = make_run(scored=("train", "val"))
    labels = dataset.test.labels
    probabilities = np.tile([0.2, 0.7, 0.1], (len(labels), 1))
    metrics = replace(compute_metrics(probabilities, labels, dataset.class_names), split="test")
    Evaluation(metrics, probabilities, labels).save(
        folder.file("test", "metrics.json"), folder.file("test", "predictions.npz")
    )
    page = page_of((folder, dataset))
    assert "Classes never predicted 2 of 3 (Podocytes; Thick Ascending Limb)" in page.text
    assert "Confused most: Podocytes predicted as Leukocytes (100% of its images) and Thick asc. limb as" in page.text


@pytest.mark.usefixtures("no_drawing")
def test_two_mistakes_per_class_are_visible_with_their_index_and_the_rest_is_folded(make_run: MakeRun) -> None:
    folder, dataset = make_run()
    page = page_of((folder, dataset))
    evaluation = Evaluation.from_run(folder, "test")
    articles = page.source.split("<article>")[1:]
    assert len(articles) == 3
    for c, article in enumerate(articles):
        visible, folded = article.split("<details>")
        indices = [[int(index) for index in re.findall(r"<b>#(\d+)</b>", part)] for part in (visible, folded)]
        assert [len(part) for part in indices] == [2, 3]
        wrong = (evaluation.labels == c) & (evaluation.probabilities.argmax(axis=1) != c)
        confidences = evaluation.probabilities.max(axis=1)
        expected = sorted(np.flatnonzero(wrong), key=lambda i: -confidences[i])[:5]
        assert indices[0] + indices[1] == expected
        image = re.search(r'src="(data:image/png[^"]+)" alt="Image (\d+):', visible)
        assert image is not None
        assert image[1] == thumbnail(dataset.test.images[int(image[2])])


@pytest.mark.usefixtures("no_drawing")
def test_mistakes_have_the_names_of_their_images(make_run: MakeRun) -> None:
    folder, dataset = make_run()
    page = page_of((folder, dataset))
    assert "counted from 0 in file order (test_images[12])." in page.text
    names = np.array([f"K4 & <b>, nucleus {900 + i}" for i in range(len(dataset.test))])
    page = page_of((folder, replace(dataset, test=replace(dataset.test, names=names))))
    assert "test_images" not in page.text
    named = re.findall(r"<b>#(\d+)</b> K4 &amp; &lt;b&gt;, nucleus (\d+): predicted", page.source)
    assert len(named) == 15
    assert all(int(number) == 900 + int(index) for index, number in named)


@pytest.mark.usefixtures("no_drawing")
def test_next_steps_name_the_run_relative_to_the_folder_of_the_commands(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(root="runs/my run")
    monkeypatch.chdir(tmp_path)
    assert "nephros predict IMAGES --model 'runs/my run'" in page_of(run).text
    monkeypatch.chdir(tmp_path.parent.parent)
    inside = page_of(run).text
    assert f"{tmp_path.parent.name}/{tmp_path.name}/runs/my run'" in inside
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "nephros compare 'my run' ANOTHER_RUN" in page_of(run).text


@pytest.mark.usefixtures("no_drawing")
def test_a_model_of_the_nuclei_of_stacks_is_for_stacks(make_run: MakeRun) -> None:
    folder, dataset = make_run()
    assert "nephros predict IMAGES" in page_of((folder, dataset)).text
    info = folder.info()
    folder.write_info(replace(info, input_conversion={**info.input_conversion, "target_voxel_size": [1.0, 0.5, 0.5]}))
    text = page_of((folder, dataset)).text
    assert "nephros predict STACK --mask MASK --model" in text
    assert "nephros predict IMAGES" not in text


@pytest.mark.usefixtures("no_drawing")
def test_a_report_of_large_images_in_color_stays_small(make_run: MakeRun) -> None:
    folder, dataset = make_run(tuple(f"organ {c}" for c in range(9)), channels=3)
    rng = np.random.default_rng(0)
    large = Split(rng.integers(0, 255, (180, 224, 224, 3)).astype(np.uint8), dataset.test.labels)
    page = page_of((folder, replace(dataset, test=large)))
    assert page.source.count("<b>#") > 20
    assert len(page.source) < 2_000_000


@pytest.mark.usefixtures("no_drawing")
def test_test_and_validation_show_their_metrics_and_intervals(make_run: MakeRun) -> None:
    run = make_run()
    page = page_of(run)
    for split in ("test", "val"):
        m = Evaluation.load(run[0].file(split, "metrics.json"), run[0].file(split, "predictions.npz")).metrics
        assert f"{100 * m.accuracy_interval.low:.1f} to {100 * m.accuracy_interval.high:.1f}%" in page.text
        assert f"{m.accuracy:.4f}" in page.text
        assert f"{m.loss:.4f}" in page.text


@pytest.mark.slow
def test_names_from_outside_are_escaped(make_run: MakeRun) -> None:
    names = ("<script>alert(1)</script>", '$x^$ & "q" \'', "bell \x07 </svg><img src=x>")
    page = page_of(make_run(names, command="nephros train '<b>'"))
    assert "script" not in page.tags
    assert page.tags.count("img") == len(re.findall('<img src="data:image/', page.source))
    assert "<script>" not in page.source
    assert "<img src=x" not in page.source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.source
    assert "bell \ufffd" in page.text
    assert "&#39;&lt;b&gt;&#39;" in page.source
    assert "nephros train '<b>'" in page.text


@pytest.mark.slow
def test_every_file_table_and_figure_of_synthetic_cells_is_marked(make_run: MakeRun) -> None:
    folder, dataset = make_run(("round", "oval"), split="synthetic")
    file = write_report(folder, dataset)
    page = Page(file)
    assert file.name == "synthetic-report.html"
    files = list((folder.root / "figures").iterdir())
    drawn = ["class-balance", "confusion-matrix", "learning-curves", "reliability", "roc-pr"]
    stems = [*drawn, "errors-00", "errors-01"]
    assert {path.name for path in files} == {f"synthetic-{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert page.tags.count("svg") == len(drawn)
    for path in files:
        if path.suffix == ".svg":
            assert "Example cells, synthetic</text>" in path.read_text(encoding="utf-8")
    assert page.captions
    for text in (*page.captions, *page.alts):
        assert "synthetic" in text
    assert any("synthetic" in caveat for caveat in page.caveats)


@pytest.mark.usefixtures("no_drawing")
def test_published_results_are_shown_for_tissuemnist_only(make_run: MakeRun) -> None:
    page = page_of(make_run(key="tissuemnist", split="official"))
    for text in (
        "AutoKeras",
        "0.7030",
        "MedViTV2-L",
        "checkpoint selected on the test split",
        "this run: little",
        "official test",
    ):
        assert text in page.text
    assert "Not the same images" not in page.text
    other = page_of(make_run(root="other"))
    assert "AutoKeras" not in other.text
    assert "this run: little" not in other.text


@pytest.mark.usefixtures("no_drawing")
def test_another_split_and_a_run_without_test_have_caveats(make_run: MakeRun) -> None:
    page = page_of(make_run(key="tissuemnist", scored=("train", "val")))
    of_split, of_test = page.caveats
    assert "official TissueMNIST test split" in of_split
    assert "has not been evaluated on the test split" in of_test
    for text in (
        "Not the same images:",
        "Validation only:",
        "Never evaluated on the test split",
        "accuracy on validation , 120 images",
    ):
        assert text in page.text
    tested = page_of(make_run(key="tissuemnist", split="official", root="tested"))
    assert tested.caveats == []
    assert "Validation only:" not in tested.text


@pytest.mark.usefixtures("no_drawing")
def test_warnings_and_repeated_test_reads_are_caveats(make_run: MakeRun) -> None:
    folder, dataset = make_run(warnings=["Validation lacks the class heart."])
    reads = folder.file("test", "reads.jsonl")
    reads.write_text(reads.read_text() * 3, encoding="utf-8")
    page = page_of((folder, dataset))
    of_reads, warning = page.caveats
    assert "3 times" in of_reads
    assert warning == "Validation lacks the class heart."
    assert "Evaluations on the test split: 3 so far" in page.text


@pytest.mark.usefixtures("no_drawing")
def test_a_missing_class_is_named(make_run: MakeRun) -> None:
    page = page_of(make_run(missing=1))
    assert any("Leukocytes" in caveat for caveat in page.caveats)
    assert "No images in test." in page.text


@pytest.mark.usefixtures("no_drawing")
def test_two_and_eleven_classes_in_gray_and_color(make_run: MakeRun) -> None:
    two = page_of(make_run(("malignant", "normal, benign"), root="two"))
    assert two.sections == OTHER_DATA_SECTIONS
    eleven = page_of(make_run(tuple(f"organ {c}" for c in range(11)), channels=3, root="eleven"))
    assert eleven.sections == OTHER_DATA_SECTIONS
    assert "brightness" in two.text
    assert "brightness" not in eleven.text
    assert eleven.tags.count("img") >= 11


@pytest.mark.usefixtures("no_drawing")
def test_a_run_without_errors(make_run: MakeRun) -> None:
    folder, dataset = make_run(separation=99)
    page = page_of((folder, dataset))
    assert page.text.count("all 60 correctly classified") == 3
    assert page.tags.count("svg") == 5


@pytest.mark.usefixtures("no_drawing")
def test_figures_of_an_earlier_report_are_removed(make_run: MakeRun) -> None:
    folder, dataset = make_run(separation=99)
    (folder.root / "figures").mkdir()
    stale, unrelated = folder.file("figures", "errors-02.png"), folder.file("figures", "mine.png")
    for file in (stale, unrelated):
        file.write_bytes(b"x")
    write_report(folder, dataset)
    assert not stale.exists()
    assert unrelated.exists()


@pytest.mark.usefixtures("no_drawing")
def test_a_report_without_the_data_lacks_only_the_cells(make_run: MakeRun, tmp_path: Path) -> None:
    folder, dataset = make_run()
    page = Page(write_report(folder))
    assert "No images are shown: the run was trained on data given in Python" in page.text
    assert page.sections == OTHER_DATA_SECTIONS
    assert page.tags.count("svg") == 5
    assert "img" not in page.tags
    gone = {"source": str(tmp_path / "gone.npz"), "size": None, "subset": None, "seed": 0}
    folder, dataset = make_run(root="gone", data_request=gone)
    assert "No images are shown: the data can't be loaded (" in Page(write_report(folder)).text
    folder, dataset = make_run(root="changed")
    changed = replace(dataset, provenance=replace(dataset.provenance, sha256="cd" * 32))
    assert "its SHA-256 differs" in page_of((folder, changed)).text


@pytest.mark.usefixtures("no_drawing")
def test_no_cells_are_shown_for_predictions_of_other_labels(make_run: MakeRun) -> None:
    folder, dataset = make_run()
    dataset.test.labels[:] = np.roll(dataset.test.labels, 1)
    assert "the stored predictions do not match the data's test split" in page_of((folder, dataset)).text


@pytest.mark.usefixtures("no_drawing")
def test_an_interrupted_run_shows_its_history(make_run: MakeRun) -> None:
    folder, _ = make_run(scored=(), status="training", history=2)
    page = Page(report(folder.root))
    assert page.sections == ["class-balance", "learning", "reproduce"]
    assert any("2 of 5 epochs" in caveat for caveat in page.caveats)
    assert "after epoch 2 of 5; the run has not finished" in page.text
    assert "accuracy on validation" in page.text
    assert "diamonds" not in page.text


def test_a_run_without_results_is_incomplete(make_run: MakeRun) -> None:
    folder, _ = make_run(scored=(), status="training", history=0)
    with pytest.raises(IncompleteError, match=re.escape(f"`nephros.resume('{folder.root}')`")):
        report(folder.root)
    assert not folder.file("report.html").exists()


@pytest.mark.usefixtures("no_drawing")
def test_an_undefined_auc_is_a_dash(make_run: MakeRun) -> None:
    folder, dataset = make_run()
    file = folder.file("test", "metrics.json")
    file.write_text(re.sub(r'"auc": [\d.]+', '"auc": null', file.read_text(encoding="utf-8")), encoding="utf-8")
    page = page_of((folder, dataset))
    assert "Macro AUC \N{EN DASH} (0.5" in page.text


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(make_run: MakeRun) -> None:
    folder, dataset = make_run(("one", "two"))

    def everything() -> dict[str, bytes]:
        write_report(folder, dataset)
        files = [folder.file("report.html"), *(folder.root / "figures").iterdir()]
        return {file.name: file.read_bytes() for file in files}

    first = everything()
    assert len(first) == 15
    assert everything() == first


def test_damaged_metrics_are_refused(make_run: MakeRun) -> None:
    folder, dataset = make_run()
    folder.file("train", "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(FileError) as exc_info:
        write_report(folder, dataset)
    assert exc_info.value.path == folder.file("train", "metrics.json")
