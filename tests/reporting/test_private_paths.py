"""No file that people mail holds an absolute path: reports of runs and studies, comparisons, reproductions, and cards."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nephros.data.dataset import Dataset
from nephros.data.load import DataRequest
from nephros.data.provenance import ProvenanceRecord
from nephros.evaluation.leaderboard import Comparison, DatasetComparison, row_from_run
from nephros.evaluation.metrics import Metrics
from nephros.experiments.plans import PlanRow
from nephros.experiments.results import SeedResults
from nephros.presets import RECIPES
from nephros.reporting.comparison.page import write_comparison
from nephros.reporting.reproduction import write_labels_table
from nephros.reporting.run.page import write_report
from nephros.reporting.study.page import write_study_report
from nephros.runs import RunFolder, TeacherRecord
from nephros.tuning.study_state import StudyState
from tests.reporting.study_simulator import SimulationConfig, simulate

FOLDER = "/home/Jane Doe/kidney data"
COMMAND = shlex.join(
    ["nephros", "train", "--data", f"{FOLDER}/x.npz", f"--out={FOLDER}/run", "--teachers", f"{FOLDER}/a,/mnt/b"]
)
DATA: ProvenanceRecord = {
    "name": "x", "split": "own", "path": f"{FOLDER}/x.npz", "sha256": "ab" * 32, "key": None, "title": "x, own split",
    "detail": f"groups of {FOLDER}/groups.csv",
}  # fmt: skip


def check(text: str, *, names: tuple[str, ...] = ()) -> None:
    """Assert that a file's text holds neither the folders of a user nor those of this machine, but the files' names."""
    for private in ("Jane", "Doe", "kidney data", "/mnt", str(Path.home()), tempfile.gettempdir(), str(Path.cwd())):
        assert private not in text, text[text.index(private) - 60 :][:160]
    for name in names:
        assert name in text


@pytest.fixture
def run(make_run: Callable[..., tuple[RunFolder, Dataset]]) -> RunFolder:
    """Return a run whose description is full of paths."""
    teacher = {"run": f"{FOLDER}/runs/teacher", "recipe": "nephros", "recipe_hash": "0", "weights_sha256": "cd" * 32}
    folder, _ = make_run(
        command=COMMAND,
        data=DATA,
        data_request={"source": f"{FOLDER}/x.npz", "size": None, "subset": None, "seed": 0},
        warnings=[f"{FOLDER}/x.npz has no class names.", f"'{FOLDER}/y.npz' is skipped; see /mnt/b/log.txt."],
        teachers=[teacher],
        init={"source": f"{FOLDER}/runs/start", "recipe": "nephros", "sha256": "ef" * 32, "head": "new"},
    )
    return folder


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize("status", ["complete", "training"])
def test_the_report_of_a_run(run: RunFolder, status: str) -> None:
    run.write_info(replace(run.info(), status=status))
    page = write_report(run).read_text(encoding="utf-8")
    check(page, names=("x.npz", "teacher", "start", "log.txt"))


@pytest.mark.usefixtures("no_drawing")
def test_the_report_of_a_run_from_windows(run: RunFolder) -> None:
    folder = r"C:\Users\Jane Doe\kidney data"
    info = run.info()
    data: ProvenanceRecord = {**DATA, "path": rf"{folder}\x.npz", "detail": ""}
    teachers: list[TeacherRecord] = [{**info.teachers[0], "run": rf"{folder}\teacher"}]
    request: DataRequest = {**info.data_request, "source": data["path"]}
    warnings = [rf"{folder}\x.npz has no class names."]
    run.write_info(
        replace(info, data=data, data_request=request, teachers=teachers, warnings=warnings, command="", init=None)
    )
    check(write_report(run).read_text(encoding="utf-8"), names=("x.npz", "teacher"))


@pytest.mark.usefixtures("no_drawing")
def test_the_report_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.reporting.study.importance.N_SHUFFLES", 1)
    monkeypatch.setattr("nephros.reporting.study.page.save_figure", lambda *_args: "")
    study = simulate(SimulationConfig(max_epochs=3))
    settings = replace(
        study.settings, command=COMMAND, data=DATA, data_request={**study.settings.data_request, "source": DATA["path"]}
    )
    failed = replace(
        study.configs[0, 0], state="failed", values={}, error="No space left on device: '/mnt/b/checkpoint.pt'"
    )
    page = write_study_report(StudyState(settings, {**study.configs, (0, 0): failed}), tmp_path)
    check(page.read_text(encoding="utf-8"), names=("x.npz", "checkpoint.pt"))


@pytest.mark.usefixtures("no_drawing")
def test_the_files_of_a_comparison(run: RunFolder, tmp_path: Path) -> None:
    info, recipe = run.info(), run.recipe()
    row = row_from_run(info, recipe, Metrics.from_run(run, "test"), "test", "a", source=info.command)
    comparison = Comparison("test", [DatasetComparison("x, own split", [row], [], [])])
    for file in write_comparison(comparison, tmp_path):
        check(file.read_text(encoding="utf-8"), names=("x.npz",))


def test_the_tables_of_a_reproduction(tmp_path: Path) -> None:
    results = [SeedResults(PlanRow("nephros", "nephros", RECIPES["nephros"], (0,)), [], [], [], [], [])]
    csv_file, markdown = write_labels_table(results, tmp_path, flags=f"--data {shlex.quote(DATA['path'])} --out /mnt/b")
    for file in (csv_file, markdown):
        check(file.read_text(encoding="utf-8"), names=("--data x.npz", "--out b"))


@pytest.mark.slow
def test_the_cards_of_an_exported_model(exported_model: Path) -> None:
    cards = list(exported_model.parent.glob("*.card.*"))
    assert {card.suffix for card in cards} == {".json", ".md"}
    for card in cards:
        check(card.read_text(encoding="utf-8"))
