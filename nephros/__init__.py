"""nephros: train, judge and report classifiers of kidney-cell images.

import nephros
run = nephros.train("course-3", "tissuemnist")      # a RunFolder
evaluation = nephros.evaluate(run.root, "val")      # an Evaluation
print(evaluation.metrics["macro_f1"])
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# With any other process busy, OpenMP threads that spin while waiting are many times slower than threads that sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# But waking takes long too: some microseconds of spinning first (GNU's OpenMP) make two threads a quarter faster where
# nothing else runs, and somewhat slower where something does (python -m benchmarks.waiting).
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
# Some builds of ONNX Runtime report their use to Microsoft, and write a file for it, unless told not to before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from nephros.data.dataset import Dataset, Provenance, Split
    from nephros.data.download import download
    from nephros.data.load import describe, load
    from nephros.errors import UserError
    from nephros.evaluation.evaluate import Evaluation
    from nephros.jobs.compare import compare
    from nephros.jobs.evaluate import evaluate
    from nephros.jobs.overlay import overlay
    from nephros.jobs.prepare import prepare
    from nephros.jobs.report import report
    from nephros.jobs.reproduce import reproduce
    from nephros.jobs.study import best_recipe, show_study
    from nephros.jobs.train import resume, train
    from nephros.jobs.tune import resume_study, tune
    from nephros.recipe import Recipe
    from nephros.recipe_files import find as find_recipe
    from nephros.recipes import RECIPES
    from nephros.runs import RunFolder
    from nephros.serving.engine import Answers, Engine
    from nephros.serving.export import export
    from nephros.serving.opening import open_model
    from nephros.serving.predict import predict
    from nephros.serving.server import serve
    from nephros.serving.table import Predictions
    from nephros.versions import __version__

_WHERE = {
    "Answers": "serving.engine",
    "Dataset": "data.dataset",
    "Engine": "serving.engine",
    "Evaluation": "evaluation.evaluate",
    "Predictions": "serving.table",
    "Provenance": "data.dataset",
    "RECIPES": "recipes",
    "Recipe": "recipe",
    "RunFolder": "runs",
    "Split": "data.dataset",
    "UserError": "errors",
    "__version__": "versions",
    "best_recipe": "jobs.study",
    "compare": "jobs.compare",
    "describe": "data.load",
    "download": "data.download",
    "evaluate": "jobs.evaluate",
    "export": "serving.export",
    "find_recipe": "recipe_files:find",
    "load": "data.load",
    "open_model": "serving.opening",
    "overlay": "jobs.overlay",
    "predict": "serving.predict",
    "prepare": "jobs.prepare",
    "report": "jobs.report",
    "reproduce": "jobs.reproduce",
    "resume": "jobs.train",
    "resume_study": "jobs.tune",
    "serve": "serving.server",
    "show_study": "jobs.study",
    "train": "jobs.train",
    "tune": "jobs.tune",
}

__all__ = [
    "RECIPES",
    "Answers",
    "Dataset",
    "Engine",
    "Evaluation",
    "Predictions",
    "Provenance",
    "Recipe",
    "RunFolder",
    "Split",
    "UserError",
    "__version__",
    "best_recipe",
    "compare",
    "describe",
    "download",
    "evaluate",
    "export",
    "find_recipe",
    "load",
    "open_model",
    "overlay",
    "predict",
    "prepare",
    "report",
    "reproduce",
    "resume",
    "resume_study",
    "serve",
    "show_study",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import nephros` and `nephros --help` stay fast."""
    if name not in _WHERE:
        raise AttributeError(f"module 'nephros' has no attribute '{name}'")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(f"nephros.{module}"), attribute or name)
