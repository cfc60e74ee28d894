"""The start of a run: the name of its folder, and the description of it that run.json keeps."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict, cast

import torch

from nephros import device as devices
from nephros.data.dataset import Dataset
from nephros.data.load import DataRequest
from nephros.distributed import DistributedContext
from nephros.environment import git_commit, package_versions
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.flops import count_multiply_adds, count_parameters
from nephros.recipe import Recipe
from nephros.runs import InputSpecRecord, RunInfo
from nephros.training.model_init import input_spec


def build_run_info(
    recipe: Recipe,
    dataset: Dataset,
    model: Classifier | None,
    request: DataRequest,
    device: torch.device,
    test: bool,
    command: str,
    context: DistributedContext,
    replicas: int = 1,
) -> RunInfo:
    """Return the content of run.json for a run that is about to begin; a classical baseline has no `model` yet."""
    spec = input_spec(dataset)
    return RunInfo(
        recipe=recipe.name,
        recipe_hash=recipe.hash,
        seed=recipe.seed,
        command=command,
        device=describe_devices(device, context, recipe.amp, replicas),
        device_type=device.type,
        threads=torch.get_num_threads(),
        processes=context.world_size,
        replicas=replicas,
        data=dataset.provenance.to_dict(),
        data_request=request,
        class_names=list(dataset.class_names),
        input_spec=cast(InputSpecRecord, spec.to_dict()),
        class_counts={name: split.class_counts(dataset.n_classes).tolist() for name, split in dataset.splits()},
        **describe_model(model, spec),
        test=test,
        tta_views=recipe.tta_views,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=package_versions(),
        commit=git_commit(),
        input_conversion=dataset.input_conversion.to_dict(),
        warnings=[warning.replace("`", "") for warning in dataset.warnings],
    )


class ModelDescription(TypedDict):
    """Fields of RunInfo about the model."""

    normalization: dict[str, list[float]]
    parameters: int
    multiply_adds: int


def describe_model(model: Classifier | None, spec: InputSpec) -> ModelDescription:
    """Return the normalization and the cost of a model; zeros before a classical baseline is fitted."""
    if model is None:
        return {"normalization": {"mean": [], "std": []}, "parameters": 0, "multiply_adds": 0}
    return {
        "normalization": {"mean": model.mean.tolist(), "std": model.std.tolist()},
        "parameters": count_parameters(model.network),
        "multiply_adds": count_multiply_adds(model.network, spec),
    }


def describe_devices(device: torch.device, context: DistributedContext, amp: str, replicas: int = 1) -> str:
    """Return the devices of a run as text, such as `CPU, 2 threads, 2 replicas, bf16` or `2 processes, each on CPU, 1 thread`."""
    dtype = devices.autocast_dtype(amp, device)
    per_process = devices.device_name(device)
    per_process += f", {replicas} replicas" if replicas > 1 else ""
    per_process += f", {devices.dtype_name(dtype)}" if dtype else ""
    return per_process if context.world_size == 1 else f"{context.world_size} processes, each on {per_process}"


RUNS_DIR = Path("runs")
"""Folder of the runs whose folder nobody names, in the working directory."""


def default_run_dir(recipe: Recipe, synthetic: bool) -> Path:
    """Return runs/RECIPE-DATE-TIME, with a number appended when several runs begin within a second.

    Of the recipe's name, which may be any text, only what every file system takes for part of a folder's name is used.
    """
    timestamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    slug = re.sub(r"[^\w.+-]+", "-", recipe.name)[:80].strip("-.") or "run"
    name = f"{slug}-{'synthetic-' if synthetic else ''}{timestamp}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in (RUNS_DIR / candidate for candidate in names) if not path.exists())
