"""nephros: train, evaluate and explain classifiers of kidney-cell images.

    import nephros

    clf = nephros.load_classifier()                       # the bundled model
    predictions = clf.predict(images, coverage=0.9)       # (n, h, w) images; a table of predictions

    ds = nephros.load_dataset("tissuemnist", download=True)
    run = nephros.train("nephros-fast", ds, epochs=3)     # a Run
    print(run.evaluate("val").accuracy)

Importing it imports nothing else, and sets no environment variable.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nephros.annotation.project import Project
    from nephros.data.dataset import Dataset
    from nephros.data.download import download
    from nephros.data.load import describe, load_dataset
    from nephros.data.medmnist import list_datasets
    from nephros.data.provenance import Provenance
    from nephros.data.split import Split
    from nephros.environment import __version__
    from nephros.errors import (
        DivergedError,
        FileError,
        IncompatibleError,
        IncompleteError,
        InvalidArgument,
        LockedError,
        MissingDependency,
        NephrosError,
        UnknownName,
    )
    from nephros.evaluation.scoring import Evaluation
    from nephros.exporters.export import export
    from nephros.exporters.loading import load_classifier
    from nephros.inference.model_names import list_models
    from nephros.inference.prediction_batch import PredictionBatch
    from nephros.inference.predictions import Predictions
    from nephros.inference.predictor import Predictor
    from nephros.presets import RECIPES
    from nephros.recipe import Recipe
    from nephros.recipe_io import get_recipe
    from nephros.training.callbacks import Callback
    from nephros.workflows.annotate import annotate
    from nephros.workflows.cell_classifier import CellClassifier
    from nephros.workflows.compare import compare
    from nephros.workflows.create_model import create_model
    from nephros.workflows.evaluate import evaluate
    from nephros.workflows.finetune import Finetuning, finetune
    from nephros.workflows.overlay import overlay
    from nephros.workflows.predict import predict
    from nephros.workflows.prepare import prepare
    from nephros.workflows.report import report
    from nephros.workflows.reproduce import reproduce
    from nephros.workflows.resume import resume
    from nephros.workflows.run import Run
    from nephros.workflows.serve import serve
    from nephros.workflows.study import best_recipe, show_study
    from nephros.workflows.tissue_folder import save_cells
    from nephros.workflows.train import train
    from nephros.workflows.tune import resume_study, tune

# Public name -> the module that defines it.
_LAZY_IMPORTS = {
    "Callback": "training.callbacks",
    "CellClassifier": "workflows.cell_classifier",
    "Dataset": "data.dataset",
    "DivergedError": "errors",
    "Evaluation": "evaluation.scoring",
    "FileError": "errors",
    "Finetuning": "workflows.finetune",
    "IncompatibleError": "errors",
    "IncompleteError": "errors",
    "InvalidArgument": "errors",
    "LockedError": "errors",
    "MissingDependency": "errors",
    "NephrosError": "errors",
    "PredictionBatch": "inference.prediction_batch",
    "Predictions": "inference.predictions",
    "Predictor": "inference.predictor",
    "Project": "annotation.project",
    "Provenance": "data.provenance",
    "RECIPES": "presets",
    "Recipe": "recipe",
    "Run": "workflows.run",
    "Split": "data.split",
    "UnknownName": "errors",
    "__version__": "environment",
    "annotate": "workflows.annotate",
    "best_recipe": "workflows.study",
    "compare": "workflows.compare",
    "create_model": "workflows.create_model",
    "describe": "data.load",
    "download": "data.download",
    "evaluate": "workflows.evaluate",
    "export": "exporters.export",
    "finetune": "workflows.finetune",
    "get_recipe": "recipe_io",
    "list_datasets": "data.medmnist",
    "list_models": "inference.model_names",
    "load_classifier": "exporters.loading",
    "load_dataset": "data.load",
    "overlay": "workflows.overlay",
    "predict": "workflows.predict",
    "prepare": "workflows.prepare",
    "report": "workflows.report",
    "reproduce": "workflows.reproduce",
    "resume": "workflows.resume",
    "resume_study": "workflows.tune",
    "save_cells": "workflows.tissue_folder",
    "serve": "workflows.serve",
    "show_study": "workflows.study",
    "train": "workflows.train",
    "tune": "workflows.tune",
}

__all__ = [
    "RECIPES",
    "Callback",
    "CellClassifier",
    "Dataset",
    "DivergedError",
    "Evaluation",
    "FileError",
    "Finetuning",
    "IncompatibleError",
    "IncompleteError",
    "InvalidArgument",
    "LockedError",
    "MissingDependency",
    "NephrosError",
    "PredictionBatch",
    "Predictions",
    "Predictor",
    "Project",
    "Provenance",
    "Recipe",
    "Run",
    "Split",
    "UnknownName",
    "__version__",
    "annotate",
    "best_recipe",
    "compare",
    "create_model",
    "describe",
    "download",
    "evaluate",
    "export",
    "finetune",
    "get_recipe",
    "list_datasets",
    "list_models",
    "load_classifier",
    "load_dataset",
    "overlay",
    "predict",
    "prepare",
    "report",
    "reproduce",
    "resume",
    "resume_study",
    "save_cells",
    "serve",
    "show_study",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import nephros` and `nephros --help` stay fast."""
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module 'nephros' has no attribute '{name}'")
    from nephros.imports import collection_paused

    with collection_paused():
        module = importlib.import_module(f"nephros.{_LAZY_IMPORTS[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
