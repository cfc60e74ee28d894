"""The default search space of each built-in network."""

from __future__ import annotations

from typing import Any

from nephros.errors import UnknownName
from nephros.models import MODELS
from nephros.recipe import Recipe
from nephros.tuning.space import Dimension, parse_space

_SpaceMapping = dict[str, Any]


def _log_range(low: float, high: float) -> _SpaceMapping:
    return {"low": low, "high": high, "log": True}


def _decade_around(lr: float) -> _SpaceMapping:
    return _log_range(lr / 10, lr * 10)


def _poster(recipe: Recipe, device_type: str) -> _SpaceMapping:
    """The poster's search: batch size, channels and patience as it lists them, the rest around the values that it reports.

    Its lists (batch sizes from 128, channels from 8) go on doubling; with more than 16 channels an epoch takes a CPU many
    times longer.
    """
    return {
        "batch_size": [128, 256, 512],
        "model.base_channels": [8, 16] if device_type == "cpu" else [8, 16, 32, 64],
        "schedule.patience": {"low": 3, "high": 6},
        "optimizer.lr": _log_range(1e-3, 0.3),
        "optimizer.weight_decay": _log_range(1e-5, 0.1),
        "optimizer.momentum": {"low": 0.5, "high": 0.99},
        "model.dropout": {"low": 0.0, "high": 0.7},
        "schedule.factor": {"low": 0.1, "high": 0.9},
    }


def _course(recipe: Recipe, device_type: str) -> _SpaceMapping:
    """What the course report varied by hand (learning rate, depth, widths), and the batch size, which it set to 223."""
    return {
        "optimizer.lr": _log_range(1e-3, 1.0),
        "optimizer.momentum": {"low": 0.0, "high": 0.95},
        "batch_size": [64, 128, 223, 512],
        "model.depth": [1, 2],
        "model.hidden": [[100, 50], [300, 150]],
    }


def _nephnet2d(recipe: Recipe, device_type: str) -> _SpaceMapping:
    return {
        "optimizer.lr": _log_range(1e-4, 0.1),
        "optimizer.weight_decay": _log_range(1e-5, 0.1),
        "optimizer.momentum": {"low": 0.5, "high": 0.99},
        "batch_size": [16, 64, 128],
        "model.base_channels": [8, 16] if device_type == "cpu" else [16, 32, 64],
        "model.dropout": {"low": 0.0, "high": 0.7},
    }


def _nephnet3d(recipe: Recipe, device_type: str) -> _SpaceMapping:
    """As for NephNet2D, whose batches are smaller; the plateau's patience and factor as on the poster."""
    return {
        **_nephnet2d(recipe, device_type),
        "batch_size": [64, 128, 256],
        "schedule.patience": {"low": 3, "high": 10},
        "schedule.factor": {"low": 0.1, "high": 0.9},
    }


def _resnet(recipe: Recipe, device_type: str) -> _SpaceMapping:
    return {
        "optimizer.lr": _log_range(1e-4, 1e-2),
        "optimizer.weight_decay": _log_range(1e-6, 1e-2),
        "batch_size": [64, 128, 256],
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "augment.shift": {"low": 0, "high": 3},
        "augment.rotate": {"low": 0.0, "high": 30.0},
        "augment.flips": ["none", "horizontal", "dihedral"],
    }


def _compact(recipe: Recipe, device_type: str) -> _SpaceMapping:
    return {
        "optimizer.lr": _log_range(0.02, 1.0),
        "optimizer.momentum": {"low": 0.5, "high": 0.99},
        "optimizer.weight_decay": _log_range(1e-5, 1e-2),
        "batch_size": [128, 256, 512],
        "model.base_channels": [16, 32] if device_type == "cpu" else [32, 64, 96],
        "model.depth": [1, 2],
        "augment.shift": {"low": 0, "high": 3},
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "schedule.warmup": {"low": 0.0, "high": 0.4},
    }


def _equivariant(recipe: Recipe, device_type: str) -> _SpaceMapping:
    return _compact(recipe, device_type) | {
        "optimizer.lr": _log_range(0.01, 0.2),
        "model.base_channels": [16, 32, 48] if device_type == "cpu" else [32, 64, 96],
    }


_DEFAULT_SPACES = {
    "poster": _poster,
    "course": _course,
    "nephnet2d": _nephnet2d,
    "nephnet3d": _nephnet3d,
    "resnet18": _resnet,
    "resnet50": _resnet,
    "compact": _compact,
    "equivariant": _equivariant,
}


def _fallback(recipe: Recipe, device_type: str) -> _SpaceMapping:
    """The space of a network that has none of its own: an order of magnitude around its recipe's learning rate."""
    return {"optimizer.lr": _decade_around(recipe.optimizer.lr), "batch_size": [64, 128, 256]}


def default_space(base: Recipe, device_type: str) -> tuple[Dimension, ...]:
    """Return the default space of the recipe's network on `device_type` ("cpu" or "cuda").

    Fields that the recipe's optimizer and schedule don't use are left out. Raises UnknownName for an unknown network.
    """
    if base.model.network not in MODELS:
        raise UnknownName("model.network", base.model.network, MODELS, kind="network")
    ranges = _DEFAULT_SPACES.get(base.model.network, _fallback)(base, device_type)
    if not ranges["optimizer.lr"]["low"] <= base.optimizer.lr <= ranges["optimizer.lr"]["high"]:
        # The range was made for another optimizer.
        ranges["optimizer.lr"] = _decade_around(base.optimizer.lr)
    unused = set()
    if base.optimizer.name not in ("sgd", "muon"):
        unused |= {"optimizer.momentum"}
    if base.schedule.name != "plateau":
        unused |= {"schedule.patience", "schedule.factor"}
    if base.schedule.name not in ("cosine", "linear"):
        unused |= {"schedule.warmup"}
    searched = {key: value for key, value in ranges.items() if key not in unused}
    return parse_space(searched, base, f"The default space of {base.name}")
