"""A worker process of a study, `python -m nephros.tuning.worker`, started by executors.ProcessExecutor.

It reads lines of JSON (the setup, then tasks) and writes lines of JSON (ready, an epoch's metrics, an outcome, an error).
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import sys
import threading
from typing import IO, Any

import torch

from nephros.data.load import load_request
from nephros.data.subset import tuning_subset
from nephros.device import resolve_device
from nephros.errors import NephrosError
from nephros.training.history import EpochMetrics
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.trial import TrialRunner, outcome_to_dict, task_from_dict


def main() -> None:
    """Run tasks until the driver exits, which ends this process at once, even in the middle of an epoch.

    The first line of its input is a `nephros.tuning.executors.WorkerSetup`, every further one a Task.
    """
    # Nothing else may write to the pipe that the driver reads.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_lines, args=(lines,), daemon=True).start()
    try:
        _serve(lines, out)
    except OSError as error:
        _send(out, {"error_message": error.strerror or str(error), "errno": error.errno, "file": error.filename})
    except NephrosError as error:
        _send(out, {"error_message": str(error), "errno": None, "file": None})
    except ImportError as error:
        _send(
            out,
            {"error_message": f"A worker can't start ({error}): repair the installation.", "errno": None, "file": None},
        )


def _read_lines(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)  # the driver is gone; its successor starts its own workers


def _serve(lines: queue.Queue[str], out: IO[str]) -> None:
    setup = json.loads(lines.get())
    torch.set_num_threads(setup["threads"])
    dataset = load_request(setup["data_request"])
    if setup["subset"] is not None:
        dataset = tuning_subset(dataset, setup["subset"], setup["seed"])
    runner = TrialRunner(dataset, resolve_device(setup["device"]), CheckpointStore(setup["store"]))
    _send(out, {"ready": os.getpid()})
    while True:
        task = task_from_dict(json.loads(lines.get()))

        def on_epoch(metrics: EpochMetrics, key: tuple[int, int] = task.key) -> None:
            _send(out, {"key": key, "metrics": dataclasses.asdict(metrics)})

        _send(out, {"outcome": outcome_to_dict(runner.run_task(task, on_epoch))})


def _send(out: IO[str], message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
