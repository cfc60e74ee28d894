"""The data of fine-tuning: whatever `nephros.train` takes, arrays in memory, or stacks with masks and tables of classes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nephros.data.dataset import Dataset
from nephros.data.load import DataRequest, is_builtin, load_request
from nephros.data.splitting import GROUP_RULES
from nephros.data.volumes import read_volumes
from nephros.errors import FileError, InvalidArgument
from nephros.inference.array_cells import arrays_to_cells
from nephros.inference.reader import CellReader
from nephros.models.classifier import PretrainedModel
from nephros.training.small_data import few_images_warnings
from nephros.workflows.prepare import PreparedStacks, prepare
from nephros.workflows.train import build_data_request

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedData:
    """A data set, and where it comes from."""

    dataset: Dataset
    request: DataRequest
    """With which `nephros.data.load.load_request` opens it again."""
    stacks: PreparedStacks | None
    """The stacks that it was made of, whose files last as long as the context."""
    has_auto_groups: bool
    """Whether nobody says what the groups are."""


@contextlib.contextmanager
def open_data(
    data: Any,
    labels: Any,
    pretrained: PretrainedModel,
    groups: Any,
    classes: str | Path | None,
    stack_options: Mapping[str, Any],
    *,
    unlabeled: Any,
    size: int | None,
    data_seed: int,
    subset: int | None,
    resplit: Sequence[int] | None,
    white_level: float | None,
    channel: int | str | None,
    draw_test: bool,
) -> Iterator[OpenedData]:
    """Open the data of `nephros.finetune`, which explains the arguments; `stack_options` are those of `nephros.prepare`."""
    has_auto_groups = isinstance(groups, str) and groups == "auto"
    with contextlib.ExitStack() as temporary_files:
        stacks = None
        if classes is not None:
            if not isinstance(groups, str):
                raise InvalidArgument("groups", type(groups).__name__, "a name for stacks, such as stack or patient")
            folder = Path(temporary_files.enter_context(tempfile.TemporaryDirectory(prefix="nephros-")))
            levels = {"channel": channel, "white_level": white_level}
            volumes = pretrained.input_spec.depth is not None
            stacks = _prepare_stacks(data, folder, labels, classes=classes, volumes=volumes, **stack_options, **levels)
            data, channel, white_level = stacks.paths[-1], None, None
        else:
            _check_no_stacks(data, stack_options)
        if isinstance(channel, str):
            raise InvalidArgument("channel", channel, "a number: only channels of stacks have names")
        if labels is not None or not isinstance(data, str | Path | Dataset):
            data = _dataset_of_arrays(data, labels, groups, pretrained, data_seed, white_level, channel, draw_test)
            groups, data_seed, white_level, channel = "auto", 0, None, None
        if size is None and not isinstance(data, Dataset) and not is_builtin(data):
            size = pretrained.input_spec.square_side
        request = build_data_request(data, size, data_seed, subset, resplit, white_level, channel, groups, draw_test)
        dataset = data if isinstance(data, Dataset) else load_request({**request, "source": str(data)})
        dataset = _with_unlabeled(dataset, unlabeled)
        notes = (
            *((*stacks.warnings, *stacks.notes) if stacks else ()),
            *dataset.warnings,
            *few_images_warnings(dataset, ["train"]),  # from which cross-validation measures recall, too
        )
        yield OpenedData(dataclasses.replace(dataset, warnings=notes), request, stacks, has_auto_groups)


def _with_unlabeled(dataset: Dataset, unlabeled: Any) -> Dataset:
    """Return the data set with further images that have no label, which are read as inputs of its models are.

    Raises:
        FileError: there are files, and none can be read.
        InvalidArgument: these are not images.
    """
    if unlabeled is None:
        return dataset
    shape = (dataset.depth or dataset.channels, *dataset.image_size)
    if _are_paths(unlabeled):
        paths = [unlabeled] if isinstance(unlabeled, str | Path) else unlabeled
        reader = CellReader(paths, shape, conversion=dataset.input_conversion, volumes=dataset.is_volumetric)
        batches = [cells for _, cells in reader.iter_batches()]
        if not batches:
            reason = next(iter(reader.errors.values()), "it holds no images.")
            raise FileError(paths[0], f"No images without labels can be read: {reason}")
        cells = np.concatenate(batches)
        if reader.errors:
            logger.warning(f"{len(reader.errors):,} of the unlabeled images can't be read, and are left out.")
    elif dataset.is_volumetric:
        levels = dataset.input_conversion
        cells = read_volumes(unlabeled, "unlabeled", levels.white_level, levels.black_level)
        if cells.shape[1:] != dataset.train.images.shape[1:]:
            raise InvalidArgument(
                "unlabeled", f"an array of shape {np.shape(unlabeled)}", "volumes of the labeled ones' size"
            )
    else:
        cells, notes = arrays_to_cells(unlabeled, shape, dataset.input_conversion)
        for note in notes:
            logger.info("unlabeled images: %s", note)
    if not len(cells):
        return dataset
    groups = dataset.unlabeled_groups
    if groups is not None:
        groups = np.concatenate([groups, np.full(len(cells), "")])
    known = [] if dataset.unlabeled is None else [dataset.unlabeled]
    return dataclasses.replace(dataset, unlabeled=np.concatenate([*known, cells]), unlabeled_groups=groups)


def _prepare_stacks(data: Any, folder: Path, labels: Any, **options: Any) -> PreparedStacks:
    """Prepare stacks to cells.npz in `folder`; raise InvalidArgument for data that are not paths."""
    if labels is not None:
        raise InvalidArgument("labels", type(labels).__name__, "left out for stacks, whose `classes` give them")
    if not _are_paths(data):
        raise InvalidArgument("data", type(data).__name__, "the path of a stack, or a list of paths, with `classes`")
    return prepare(data, folder / "cells.npz", **options)


def _check_no_stacks(data: Any, stack_options: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for several files, or for what only stacks have, without `classes`."""
    if not isinstance(data, str | Path) and _are_paths(data):
        raise InvalidArgument(
            "data", f"{len(data)} paths", "one data set, or stacks with the table of their nuclei's `classes`"
        )
    for parameter, value in stack_options.items():
        if value is not None:
            expected = (
                "given with `classes`, the table of the nuclei's classes; for data other than stacks leave it out"
            )
            raise InvalidArgument(parameter, value, expected)


def _are_paths(data: Any) -> bool:
    """Return whether data are a path, or a list of them."""
    if isinstance(data, list | tuple):
        return bool(data) and all(isinstance(item, str | Path) for item in data)
    return isinstance(data, str | Path)


def _dataset_of_arrays(
    images: Any,
    labels: Any,
    groups: Any,
    pretrained: PretrainedModel,
    seed: int,
    white_level: float | None,
    channel: int | None,
    draw_test: bool,
) -> Dataset:
    """Return images in memory as a data set of the network's image size."""
    if isinstance(images, str | Path | Dataset):
        raise InvalidArgument("labels", type(labels).__name__, "left out, except with images in memory as `data`")
    if labels is None:
        raise InvalidArgument("labels", labels, "the class of each image in `data`")
    group_names = None if isinstance(groups, str) and groups in GROUP_RULES else groups
    spec = pretrained.input_spec
    return Dataset.from_arrays(
        images,
        labels,
        groups=group_names,
        size=spec.square_side,
        seed=seed,
        white_level=white_level,
        channel=channel,
        volumes=spec.depth is not None,
        draw_test=draw_test,
    )
