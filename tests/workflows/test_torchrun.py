"""`torchrun -m nephros train`: one complete run folder, one sentence for an error, and the same bits after a kill."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nephros.cli import main
from nephros.errors import InvalidArgument
from nephros.presets import RECIPES
from nephros.recipe import ModelConfig, OptimizerConfig, Recipe
from nephros.runs import RunFolder
from nephros.training.callbacks import Callback
from nephros.training.history import EpochMetrics, read_history
from nephros.workflows.train import train
from tests.conftest import squares_dataset, write_npz
from tests.torchrun import TIMEOUT_S, error_lines, find_rank_pid, run_torchrun, start_torchrun, wait_for_exit

pytestmark = pytest.mark.usefixtures("reports_without_figures")

FLAGS = [
    "nephros", "train", "poster", "--epochs", "5", "--model.base_channels", "4", "--model.dropout", "0.3", "--batch_size", "65",
    "--augment.flips", "dihedral",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz", squares_dataset(n=1200))


@pytest.fixture(scope="module")
def uninterrupted_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    status, stdout, stderr = run_torchrun(2, *FLAGS, "--data", str(data), "--out", str(out), "--test")
    assert status == 0, stderr
    assert stderr.count("training images, 2 processes, each on CPU, 1 thread") == 1
    assert stdout.count("report: ") == 1
    assert stderr.count("epoch 5/5") == 1
    return out


@pytest.mark.slow
def test_two_processes_write_one_complete_run(uninterrupted_run: Path) -> None:
    info = json.loads((uninterrupted_run / "run.json").read_text())
    assert (info["status"], info["processes"], info["threads"]) == ("complete", 2, 1)
    for name in ("recipe.yaml", "checkpoint.pt", "weights.safetensors", "report.html", "test/predictions.npz"):
        assert (uninterrupted_run / name).stat().st_size > 0, name
    assert len(read_history(uninterrupted_run / "history.csv")) == 5
    assert len((uninterrupted_run / "test" / "reads.jsonl").read_text().splitlines()) == 1
    assert not list(uninterrupted_run.rglob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_restarted_and_the_run_ends_with_the_same_bits(
    rank: int, data: Path, uninterrupted_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    history = out / "history.csv"
    with start_torchrun(2, *FLAGS, "--data", str(data), "--out", str(out), "--test", restarts=2) as running:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and not (history.exists() and len(history.read_text().splitlines()) > 2):
            assert running.poll() is None
            time.sleep(0.01)
        process = find_rank_pid(running, rank)
        assert process is not None
        os.kill(process, signal.SIGKILL)
        status, stdout, stderr = wait_for_exit(running)
    assert status == 0, stderr
    assert "resuming after epoch" in stderr
    assert stdout.count("report: ") == 1
    for name in ("weights.safetensors", "val/predictions.npz"):
        assert (out / name).read_bytes() == (uninterrupted_run / name).read_bytes(), name
    assert json.loads((out / "run.json").read_text())["status"] == "complete"


@pytest.mark.slow
def test_an_error_is_reported_once_in_one_sentence(data: Path, uninterrupted_run: Path, tmp_path: Path) -> None:
    train, new = [*FLAGS, "--data", str(data)], ["--out", str(tmp_path / "run")]
    attempts = [
        ([*train, "--out", str(uninterrupted_run)], "new folder"),  # an error on the first rank alone
        ([*train, *new, "--optimizer.lr", "1e30"], "lower --optimizer.lr"),
    ]
    for args, sentence in attempts:
        status, _, stderr = run_torchrun(2, *args)
        assert status != 0
        (line,) = error_lines(stderr)
        assert sentence in line
        assert "nephros/" not in stderr  # no traceback through our files


@pytest.mark.slow
def test_torchrun_with_one_process_gives_the_bits_of_a_plain_run_and_two_processes_resume_it(
    data: Path, tmp_path: Path
) -> None:
    plain, single = tmp_path / "plain", tmp_path / "single"
    train = [*FLAGS, "--epochs", "2", "--data", str(data), "--out"]
    subprocess.run(
        [sys.executable, "-m", *train, str(plain)],
        check=True,
        capture_output=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run_torchrun(1, *train, str(single))[0] == 0
    assert (plain / "weights.safetensors").read_bytes() == (single / "weights.safetensors").read_bytes()
    info = json.loads((single / "run.json").read_text())
    assert info.pop("processes") == 1  # which runs of earlier versions do not say
    (single / "run.json").write_text(json.dumps({**info, "status": "training"}))
    status, _, stderr = run_torchrun(2, "nephros", "train", "--resume", str(single))
    assert status == 0, stderr
    assert stderr.count("warning: the run started on CPU, 1 thread and continues on 2 processes") == 1
    assert json.loads((single / "run.json").read_text())["status"] == "complete"
    assert (plain / "weights.safetensors").read_bytes() == (single / "weights.safetensors").read_bytes()


class _StopAfterFirstEpoch:
    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        raise KeyboardInterrupt

    def on_train_end(self, run: RunFolder) -> None:
        raise AssertionError


@pytest.mark.slow
def test_two_processes_resume_a_run_of_two_replicas(data: Path, tmp_path: Path) -> None:
    """They divide a batch alike, so that the second epoch has the same loss."""
    model = ModelConfig(network="course", base_channels=8, depth=2, hidden=(16,))  # without statistics of batches
    recipe = Recipe(model=model, optimizer=OptimizerConfig(lr=0.1, momentum=0.9), epochs=2, batch_size=400)
    losses = []
    stop: list[Callback] = [_StopAfterFirstEpoch()]
    for name, callbacks in (("whole", []), ("stopped", stop)):
        with contextlib.suppress(KeyboardInterrupt):
            train(recipe, data, out=tmp_path / name, threads=2, callbacks=callbacks)
        if callbacks:
            status, _, stderr = run_torchrun(2, "nephros", "train", "--resume", str(tmp_path / name))
            assert status == 0, stderr
        assert json.loads((tmp_path / name / "run.json").read_text())["replicas"] == 2
        losses.append([row.train_loss for row in read_history(tmp_path / name / "history.csv")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.slow
def test_two_processes_share_the_soft_targets(data: Path, uninterrupted_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    distill_args = ["--teachers", str(uninterrupted_run), "--distillation_weight", "0.5", "--epochs", "2"]
    status, _, stderr = run_torchrun(2, *FLAGS, *distill_args, "--data", str(data), "--out", str(out))
    assert status == 0, stderr
    assert (out / "soft_targets.npz").stat().st_size > 0
    assert len(read_history(out / "history.csv")) == 2


@pytest.fixture
def torchrun_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process look like the only one of a torchrun."""
    for key, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(key, value)
    for key, value in {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RESTART_COUNT": "0"}.items():
        monkeypatch.setenv(key, value)


@pytest.mark.usefixtures("torchrun_environment")
def test_torchrun_needs_a_run_folder_and_is_for_training(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for args, sentence in (
        (["train", "course-1", "--data", str(tiny_npz)], "--out"),
        (["evaluate", "run"], "torchrun is for `nephros train`: run `nephros evaluate` without it."),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(args)
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("torchrun_environment")
def test_the_same_command_continues_its_run_after_a_restart_only(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = dataclasses.replace(RECIPES["course-1"], epochs=1)
    caplog.set_level(logging.INFO, "nephros")
    folder = train(recipe, tiny_npz, out=tmp_path / "run")
    with pytest.raises(InvalidArgument, match="new folder"):
        train(recipe, tiny_npz, out=folder.root)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    train(recipe, tiny_npz, out=folder.root)
    assert "already complete" in caplog.messages[-1]
    for other, subset in ((dataclasses.replace(recipe, seed=1), None), (recipe, 50)):
        with pytest.raises(InvalidArgument) as exc_info:
            train(other, tiny_npz, out=folder.root, subset=subset)
        assert (exc_info.value.parameter, exc_info.value.value) == ("out", folder.root)
    assert train(recipe, tiny_npz, out=tmp_path / "new").info().status == "complete"


@pytest.mark.slow
@pytest.mark.usefixtures("torchrun_environment")
def test_a_recipe_that_was_adapted_to_small_data_continues_after_a_restart(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train("course-4", tiny_npz, out=tmp_path / "run")
    adapted = folder.recipe()
    assert adapted.batch_size < RECIPES["course-4"].batch_size
    assert adapted.hash == folder.info().recipe_hash
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert train("course-4", tiny_npz, out=folder.root).recipe() == adapted
    with pytest.raises(InvalidArgument) as exc_info:
        train("course-4", tiny_npz, out=folder.root, adaptable=())
    assert exc_info.value.parameter == "out"
