"""The arrays of the npz file that `nephros.prepare` writes: images, ids, stacks, classes and groups of all stacks' nuclei."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.class_names import class_name_fault
from nephros.data.images.input_conversion import CONVERSION_ARRAY, InputConversion
from nephros.errors import IncompatibleError
from nephros.microscopy.class_labels import NucleusClasses
from nephros.microscopy.preparation import NucleiOfStack, PrepareOptions
from nephros.text_tables import join_words

_ARRAYS = ("images", "volumes", "ids", "stack", "labels", "class_names", CONVERSION_ARRAY)
"""Arrays that no column of groups may replace."""
_MIN_PER_CLASS = 3


def group_names(prepared: Sequence[NucleiOfStack], labels: Sequence[NucleusClasses]) -> list[str]:
    """Return the names of the groups other than the stack, patients first."""
    names = dict.fromkeys(["patient"] if any(nuclei.files.patient for nuclei in prepared) else [])
    names |= dict.fromkeys(name for classes in labels for name in classes.groups_of_id)
    return [name for name in names if name not in _ARRAYS]


def prepared_arrays(
    prepared: Sequence[NucleiOfStack], labels: Sequence[NucleusClasses], options: PrepareOptions, scratch_dir: Path
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the npz file's arrays, of which volumes are memory-mapped from `scratch_dir`, and notes on classes."""
    stack_names = [nuclei.files.name for nuclei in prepared for _ in nuclei.ids]
    arrays: dict[str, NDArray[Any]] = {
        "volumes" if options.volumes else "images": _joined([nuclei.images for nuclei in prepared], scratch_dir),
        "ids": np.concatenate([nuclei.ids for nuclei in prepared]),
        "stack": np.array(stack_names),
    }
    for name in group_names(prepared, labels):
        arrays[name] = np.array(
            [group for i, nuclei in enumerate(prepared) for group in _groups(nuclei, labels[i : i + 1], name)]
        )
    notes = []
    if labels:
        class_of_row = [
            classes.class_of_id.get(nucleus_id, "")
            for nuclei, classes in zip(prepared, labels, strict=True)
            for nucleus_id in nuclei.ids.tolist()
        ]
        is_labeled = [name != "" for name in class_of_row]
        given = list(itertools.compress(class_of_row, is_labeled))
        arrays |= {"class_names": np.array(check_classes(given)), "labels": np.array(class_of_row)}
        notes += [note for classes in labels for note in classes.notes]
        notes += stack_warnings(given, list(itertools.compress(stack_names, is_labeled)))
    arrays[CONVERSION_ARRAY] = np.array(json.dumps(_conversion(prepared, options).to_dict()))
    return arrays, notes


def _joined(images: Sequence[NDArray[np.uint8]], scratch_dir: Path) -> NDArray[np.uint8]:
    """Return the images of all stacks; those that are memory-mapped stay on the disk."""
    if not isinstance(images[0], np.memmap) or len(images) == 1:
        return images[0] if len(images) == 1 else np.concatenate(images)
    shape = (sum(map(len, images)), *images[0].shape[1:])
    volumes = np.lib.format.open_memmap(scratch_dir / "joined.npy", "w+", np.uint8, shape)
    return np.concatenate(images, out=volumes)


def _groups(nuclei: NucleiOfStack, labels: Sequence[NucleusClasses], name: str) -> list[str]:
    """Return the group of each nucleus of a stack; all are of the only one that the labeled nuclei are of."""
    if name == "patient" and nuclei.files.patient:
        return [nuclei.files.patient] * len(nuclei.ids)
    group_of_id = labels[0].groups_of_id.get(name, {}) if labels else {}
    default = next(iter(group_of_id.values())) if len(set(group_of_id.values())) == 1 else ""
    return [group_of_id.get(nucleus_id, default) for nucleus_id in nuclei.ids.tolist()]


def _conversion(prepared: Sequence[NucleiOfStack], options: PrepareOptions) -> InputConversion:
    """Return what a model that is trained on the npz file needs to know of the images' making, to convert its inputs likewise."""
    conversion = InputConversion(target_voxel_size=prepared[0].scale.target_voxel_size)
    if levels := _mean_levels([nuclei for nuclei in prepared if nuclei.stack.dtype != np.uint8]):
        black_level, white_level = levels
        conversion = replace(
            conversion, white_level=white_level, black_level=black_level, fits_stacks=not options.gives_levels
        )
    if options.gives_levels:
        uint8_levels = _mean_levels([nuclei for nuclei in prepared if nuclei.stack.dtype == np.uint8])
        conversion = replace(conversion, uint8_stack_levels=uint8_levels)
    return conversion


def _mean_levels(prepared: Sequence[NucleiOfStack]) -> tuple[float, float] | None:
    """Return the mean black and white level of some stacks; None for no stack."""
    if not prepared:
        return None
    limits = [nuclei.result.contrast_limits for nuclei in prepared]
    black, white = np.mean([(limit.black_level, limit.white_level) for limit in limits], axis=0).tolist()
    return black, white


def check_classes(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the classes, sorted, given the class of each labeled nucleus.

    Raises:
        IncompatibleError: there are fewer than two classes, one has too few nuclei, or their names are not names.
    """
    counts = dict(sorted(Counter(class_names).items()))
    if len(counts) < 2:
        raise IncompatibleError(
            f"`classes` has {len(counts)} class among the nuclei kept; a classifier needs at least two."
        )
    if fault := class_name_fault(list(counts)):
        raise IncompatibleError(f"In `classes`, sorted by name, {fault}; spell each class in one way.")
    rarest = min(counts, key=lambda name: counts[name])
    if counts[rarest] < _MIN_PER_CLASS:
        raise IncompatibleError(
            f"`classes` has too few nuclei of '{rarest}', {counts[rarest]}; a class needs at least {_MIN_PER_CLASS}: "
            "label more, or leave it out of the table."
        )
    return tuple(counts)


def stack_warnings(class_names: Sequence[str], stack_names: Sequence[str]) -> tuple[str, ...]:
    """Return a warning for classes that occur in one of several stacks only, given the class and the stack of each nucleus."""
    stacks_of_class: dict[str, set[str]] = {}
    for class_name, stack_name in zip(class_names, stack_names, strict=True):
        stacks_of_class.setdefault(class_name, set()).add(stack_name)
    lonely = {name: stacks for name, stacks in sorted(stacks_of_class.items()) if len(stacks) == 1}
    if len(set(stack_names)) < 2 or not lonely:
        return ()
    text = join_words(f"{name} in {next(iter(stacks))}" for name, stacks in lonely.items())
    return (
        f"Some classes occur in one stack only ({text}), so a model may learn the stack rather than the class: label them in "
        "several.",
    )
