"""A sensible space for each built-in network, where the user names none."""

from __future__ import annotations

from typing import Any

from nephros.recipe import Recipe
from nephros.tuning.space import Dimension, parse

_Ranges = dict[str, Any]


def _log(low: float, high: float) -> _Ranges:
    return {"low": low, "high": high, "log": True}


def _poster(recipe: Recipe, device_type: str) -> _Ranges:
    """What the poster searched: batch size, features and patience as it lists them, and the values that it reports.

    Its features go on doubling; above 16 an epoch takes a CPU many times longer.
    """
    return {
        "batch_size": [64, 128, 256, 512],
        "model.features": [8, 16] if device_type == "cpu" else [8, 16, 32, 64],
        "schedule.patience": {"low": 3, "high": 6},
        "optimizer.lr": _log(1e-3, 0.3),
        "optimizer.weight_decay": _log(1e-5, 0.1),
        "optimizer.momentum": {"low": 0.5, "high": 0.99},
        "model.dropout": {"low": 0.0, "high": 0.7},
        "schedule.factor": {"low": 0.1, "high": 0.9},
    }


def _course(recipe: Recipe, device_type: str) -> _Ranges:
    """What the course report varied by hand (rate, depth, widths), and the batch size, which it set to 223."""
    return {
        "optimizer.lr": _log(1e-3, 1.0),
        "optimizer.momentum": {"low": 0.0, "high": 0.95},
        "batch_size": [64, 128, 223, 512],
        "model.depth": [1, 2],
        "model.hidden": [[100, 50], [300, 150]],
    }


def _nephnet2d(recipe: Recipe, device_type: str) -> _Ranges:
    return {
        "optimizer.lr": _log(1e-4, 0.1),
        "optimizer.weight_decay": _log(1e-5, 0.1),
        "optimizer.momentum": {"low": 0.5, "high": 0.99},
        "batch_size": [16, 64, 128],
        "model.features": [8, 16] if device_type == "cpu" else [16, 32, 64],
        "model.dropout": {"low": 0.0, "high": 0.7},
    }


def _resnet(recipe: Recipe, device_type: str) -> _Ranges:
    return {
        "optimizer.lr": _log(1e-4, 1e-2),
        "optimizer.weight_decay": _log(1e-6, 1e-2),
        "batch_size": [64, 128, 256],
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "augment.shift": {"low": 0, "high": 3},
        "augment.rotate": {"low": 0.0, "high": 30.0},
        "augment.flips": ["none", "horizontal", "dihedral"],
    }


def _compact(recipe: Recipe, device_type: str) -> _Ranges:
    return {
        "optimizer.lr": _log(0.02, 1.0),
        "optimizer.momentum": {"low": 0.5, "high": 0.99},
        "optimizer.weight_decay": _log(1e-5, 1e-2),
        "batch_size": [128, 256, 512],
        "model.features": [16, 32] if device_type == "cpu" else [32, 64, 96],
        "model.depth": [1, 2],
        "augment.shift": {"low": 0, "high": 3},
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "schedule.warmup": {"low": 0.0, "high": 0.4},
    }


_SPACES = {
    "poster": _poster,
    "course": _course,
    "nephnet2d": _nephnet2d,
    "resnet18": _resnet,
    "resnet50": _resnet,
    "compact": _compact,
}


def default_space(base: Recipe, device_type: str) -> tuple[Dimension, ...]:
    """Return the space of the recipe's network, for a cpu or for cuda; without momentum where the optimiser has none."""
    ranges = _SPACES[base.model.network](base, device_type)
    if base.optimizer.name != "sgd":
        ranges.pop("optimizer.momentum", None)
    if base.schedule.name != "plateau":
        ranges = {key: value for key, value in ranges.items() if key not in ("schedule.patience", "schedule.factor")}
    if base.schedule.name not in ("cosine", "onecycle"):
        ranges.pop("schedule.warmup", None)
    if base.optimizer.nesterov and "optimizer.momentum" in ranges:
        ranges["optimizer.momentum"]["low"] = max(ranges["optimizer.momentum"]["low"], 0.5)
    return parse(ranges, base, f"The default space of {base.name}")
