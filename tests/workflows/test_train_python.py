"""`nephros.train` from Python: overrides, the run that it returns, callbacks and trackers."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import nephros
from nephros.data.dataset import Dataset
from nephros.errors import DivergedError, FileError, InvalidArgument, MissingDependency, UnknownName
from nephros.runs import RunFolder
from nephros.training.history import EpochMetrics
from nephros.training.trackers import TRACKERS, final_scalars
from nephros.workflows.run import Run
from tests.conftest import square_images, squares_dataset, write_npz

pytestmark = pytest.mark.usefixtures("reports_without_figures")

QUICK: dict[str, Any] = {"model__base_channels": 8, "batch_size": 16, "passes_per_epoch": 1, "tta_views": 1}


class Recorder:
    """A callback that keeps what it is told."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.accuracies: list[float] = []

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        assert history[-1] is epoch
        self.epochs.append(epoch.epoch)

    def on_train_end(self, run: RunFolder) -> None:
        assert isinstance(run, Run)
        self.accuracies.append(run.evaluate("val").accuracy)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Run:
    threads = torch.get_num_threads()
    ds = squares_dataset(n=96)
    out = tmp_path_factory.mktemp("runs") / "run"
    run = nephros.train(
        "nephros-fast", ds, epochs=3, optimizer__lr=0.01, test=True, out=out, threads=1, callbacks=[recorder], **QUICK
    )
    assert torch.get_num_threads() == threads
    return run


def test_the_overrides_are_the_recipes_fields(run: Run) -> None:
    recipe = run.recipe()
    assert (recipe.epochs, recipe.optimizer.lr, recipe.batch_size) == (3, 0.01, 16)
    assert recipe.optimizer.momentum == nephros.get_recipe("nephros-fast").optimizer.momentum
    assert (run.info().status, run.info().threads) == ("complete", 1)


def test_a_run_evaluates_and_shows_itself(run: Run) -> None:
    evaluation = run.evaluate("val")
    stored = nephros.evaluate(run.root, "val", squares_dataset(n=96))
    assert evaluation.accuracy == stored.accuracy
    assert f"{evaluation.accuracy:.4f}" in repr(evaluation)
    assert "kind 3" in evaluation._repr_html_()
    assert f"{evaluation.accuracy:.4f}" in repr(run)
    assert run._repr_html_().count("<tr>") == 3
    assert run.report.is_file()
    assert repr(Run.open(run.root)) == repr(run)
    assert [epoch.epoch for epoch in run.epochs] == [1, 2, 3]


def test_a_damaged_run_can_still_be_shown(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    damaged = Run(tmp_path, synthetic=False)
    assert "run.json" in repr(damaged)
    assert "run.json" in damaged._repr_html_()


def test_the_history_is_a_data_frame(run: Run) -> None:
    pytest.importorskip("pandas")
    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert run.history["val_accuracy"].tolist() == [epoch.val_accuracy for epoch in run.epochs]


def test_callbacks_follow_the_epochs_and_get_the_run(run: Run, recorder: Recorder) -> None:
    assert recorder.epochs == [1, 2, 3]
    assert recorder.accuracies == [run.evaluate("val").accuracy]


@pytest.mark.parametrize(
    ("arguments", "parameter", "suggestion"),
    [
        ({"lr": 0.1}, "lr", "optimizer__lr"),
        ({"learning_rate": 0.1}, "learning_rate", "optimizer__lr"),
        ({"optimizer__lrr": 0.1}, "optimizer__lrr", "optimizer__lr"),
        ({"epoch": 3}, "epoch", "epochs"),
        ({"batchsize": 3}, "batchsize", "batch_size"),
        ({"devise": "cpu"}, "devise", "device"),
        ({"augment": {"shift": 1}}, "augment", "augment__"),
        ({"model__depht": 1}, "model__depht", "model__depth"),
    ],
)
def test_an_unknown_override_is_refused_with_a_suggestion(
    arguments: dict[str, Any], parameter: str, suggestion: str, tmp_path: Path
) -> None:
    with pytest.raises(UnknownName) as caught:
        nephros.train("nephros-fast", squares_dataset(n=96), out=tmp_path / "run", **arguments)
    assert caught.value.parameter == parameter
    assert suggestion in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"epochs": -1}, "epochs"),
        ({"epochs": "three"}, "epochs"),
        ({"epochs": None}, "epochs"),
        ({"optimizer__lr": 0}, "optimizer.lr"),
        ({"optimizer__name": "adagrad"}, "optimizer.name"),
        ({"threads": 0}, "threads"),
        ({"threads": 1.5}, "threads"),
        ({"log": "neptune"}, "log"),
        ({"callbacks": [object()]}, "callbacks"),
        ({"callbacks": [Recorder]}, "callbacks"),
        ({"callbacks": Recorder()}, "callbacks"),
        ({"recipe": 3}, "recipe"),
        ({"data": np.zeros((8, 28, 28))}, "data"),
    ],
)
def test_bad_values_are_refused_before_anything_is_written(
    arguments: dict[str, Any], parameter: str, tmp_path: Path
) -> None:
    arguments = {"recipe": "course-1", "data": squares_dataset(n=96), "out": tmp_path / "run", **arguments}
    with pytest.raises(InvalidArgument) as caught:
        nephros.train(**arguments)
    assert caught.value.parameter == parameter
    assert not (tmp_path / "run").exists()


def test_data_without_a_test_split_is_not_trained_on_with_test(tmp_path: Path) -> None:
    images, labels = square_images(96, 4, 0)
    dataset = Dataset.from_arrays(images, labels, draw_test=False)
    calls: list[Callable[[], object]] = [
        lambda: nephros.train("course-1", dataset, test=True, out=tmp_path / "run"),
        lambda: nephros.finetune(dataset, test=True, methods="head", out=tmp_path / "run"),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument) as caught:
            call()
        assert caught.value.parameter == "test"
        assert not (tmp_path / "run").exists()


def test_a_course_recipe_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NEPHROS_DATA", raising=False)
    with pytest.raises(FileError) as caught:
        nephros.train("course-1", epochs=1)
    assert "nephros.download('tissuemnist')" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_course_recipe_trains_on_a_file(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "squares.npz", squares_dataset(n=96))
    run = nephros.train("course-1", data, epochs=1, out=tmp_path / "run")
    assert run.recipe().epochs == 1


def test_the_duration_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nephros.training.progress.STEPS_BEFORE_ESTIMATE", 2)
    with caplog.at_level(logging.INFO, logger="nephros"):
        ds = squares_dataset(n=96)
        nephros.train("nephros-fast", ds, epochs=2, out=tmp_path / "run", **QUICK)
    assert sum("will take about" in record.message for record in caplog.records) == 1


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependency, match=r"nephros\[wandb\]"):
        nephros.train("course-1", squares_dataset(n=96), out=tmp_path / "run", log="wandb")
    assert not (tmp_path / "run").exists()


def test_training_takes_the_description_of_its_run_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under torchrun the first process writes run.json, which may take longer than the others need to begin."""

    def init(dir: str, **_: Any) -> SimpleNamespace:
        (Path(dir) / "run.json").unlink()
        return SimpleNamespace(log=lambda *_, **__: None, finish=lambda exit_code=0: None, summary={})

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    run = nephros.train("nephros-fast", squares_dataset(n=96), epochs=1, out=tmp_path / "run", log="wandb", **QUICK)
    assert run.info().status == "complete"


class Interruption:
    """A callback that ends training with an error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        raise self.error

    def on_train_end(self, run: RunFolder) -> None: ...


class FakeMLflow(ModuleType):
    """As MLflow, which has one active run, and others within it."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.active: list[str] = []
        self.ended: list[tuple[str, str]] = []

    def start_run(self, run_name: str, nested: bool = False) -> None:
        assert nested or not self.active
        self.active.append(run_name)

    def log_params(self, params: dict[str, Any]) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...

    def end_run(self, status: str = "FINISHED") -> None:
        self.ended.append((self.active.pop(), status))


def test_a_run_that_ends_with_an_error_ends_the_run_of_its_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = FakeMLflow()
    exit_codes: list[int] = []
    wandb_run = SimpleNamespace(log=lambda *_, **__: None, finish=lambda exit_code=0: exit_codes.append(exit_code))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: wandb_run))
    mlflow.start_run("mine")
    dataset = squares_dataset(n=96)
    for name, error in (("stopped", KeyboardInterrupt()), ("failed", DivergedError("NaN"))):
        for log in ("mlflow", "wandb"):
            out = tmp_path / log / name
            with pytest.raises(type(error)):
                nephros.train(
                    "nephros-fast", dataset, epochs=1, out=out, log=log, callbacks=[Interruption(error)], **QUICK
                )
    nephros.resume(tmp_path / "mlflow" / "stopped", dataset, log="mlflow")
    assert mlflow.ended == [("stopped", "KILLED"), ("failed", "FAILED"), ("stopped", "FINISHED")]
    assert mlflow.active == ["mine"]
    assert exit_codes == [1, 1]


def test_a_run_whose_tracker_could_not_be_opened_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    dataset = squares_dataset(n=96)
    with pytest.raises(ConnectionError):
        nephros.train("nephros-fast", dataset, epochs=1, out=tmp_path / "run", log="wandb", **QUICK)
    assert nephros.resume(tmp_path / "run", dataset).info().status == "complete"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tracker", TRACKERS)
def test_trackers_get_every_epoch(tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed (pip install 'nephros[{tracker}]')")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    data = squares_dataset(n=96)
    run = nephros.train("nephros-fast", data, epochs=2, out=tmp_path / "run", log=tracker, **QUICK)
    assert final_scalars(run)["final/val_accuracy"] == run.evaluate("val").accuracy
    with contextlib.suppress(ModuleNotFoundError):
        check = {"tensorboard": _tensorboard_steps, "mlflow": _mlflow_steps, "wandb": _wandb_files}[tracker]
        assert check(run, tmp_path) == 2


def _tensorboard_steps(run: Run, _folder: Path) -> int:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.root / "tensorboard")).Reload()
    assert "final/val_accuracy" in events.Tags()["scalars"]
    values = [event.value for event in events.Scalars("val_accuracy")]
    assert values == pytest.approx([epoch.val_accuracy for epoch in run.epochs], abs=1e-6)
    return len(values)


def _mlflow_steps(run: Run, _folder: Path) -> int:
    from mlflow import MlflowClient

    client = MlflowClient()
    (logged,) = client.search_runs(["0"])
    assert logged.data.params["optimizer.lr"] == str(run.recipe().optimizer.lr)
    return len(client.get_metric_history(logged.info.run_id, "val_accuracy"))


def _wandb_files(run: Run, _folder: Path) -> int:
    assert list((run.root / "wandb").glob("offline-run-*/*.wandb"))
    return 2


def test_a_run_keeps_its_number_of_replicas(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset, threads = squares_dataset(n=140), torch.get_num_threads()

    class Stop:
        def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
            raise KeyboardInterrupt

        def on_train_end(self, run: RunFolder) -> None: ...

    settings: dict[str, Any] = {"epochs": 2, "batch_size": 140, "passes_per_epoch": 1}
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            nephros.train("course-1", dataset, out=tmp_path / "run", callbacks=[Stop()], **settings)
    finally:
        torch.set_num_threads(threads)
    info = RunFolder.open(tmp_path / "run").info()
    assert (info.replicas, info.threads, info.device) == (2, 2, "CPU, 2 threads, 2 replicas")
    run = nephros.resume(tmp_path / "run", dataset, threads=1)
    assert "continues on CPU, 1 thread, 2 replicas" in caplog.text
    assert (run.info().replicas, run.info().status) == (2, "complete")
