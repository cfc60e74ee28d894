"""What the arrays of an npz file are: images, labels, groups and splits, under MedMNIST's names and the other usual ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nephros.data.group_names import group_column_rank
from nephros.data.images.input_conversion import CONVERSION_ARRAY
from nephros.data.split import SPLITS
from nephros.data.split_names import HOLDOUT, SPLIT_OF_FLAG, SPLIT_OF_WORD
from nephros.errors import FileError, InvalidArgument
from nephros.text_tables import join_words

EXPECTED_LAYOUT = (
    "a data set holds train_, val_ and test_ images and labels, as MedMNIST's files do, or images and labels"
)
_KINDS = {
    "images": ("images", "image", "imgs", "img", "x", "data", "inputs", "volumes", "volume"),
    "labels": ("labels", "label", "y", "targets", "target"),
    "groups": (),
}
"""What an array holds -> the words for it, in lower case; of several arrays the one with the first of them is taken. Those for
groups are in `nephros.data.group_names`."""
_CLASS_NAMES = ("classnames", "labelnames", "targetnames", "classes")
_MAX_UNNAMED = 8
"""Arrays whose shapes are looked at where their names say nothing."""
_SPLIT_NAMES = ("split", "splits", "subset", "set")


@dataclass(frozen=True)
class NpzLayout:
    """The names of the arrays to read. Those of images, labels and groups are by split; "" stands for no split."""

    images: Mapping[str, str]
    labels: Mapping[str, str]
    groups: Mapping[str, str] = field(default_factory=dict)
    splits: str = ""
    """Array with the split of each image; "" where there is none."""
    split_flags: Mapping[str, str] = field(default_factory=dict)
    """Split -> array of truth values that say whether an image is of it, such as ``is_train``."""
    class_names: str = ""
    """Array with the names of the classes; "" where there is none."""
    unread: tuple[str, ...] = ()
    """Arrays that seem to hold images or labels too, but aren't read."""
    notes: tuple[str, ...] = ()
    """What was taken for what, where the names are not MedMNIST's."""

    @property
    def is_complete(self) -> bool:
        """Whether the arrays give all three splits."""
        return len(self.images) == len(SPLITS)


def find_layout(
    path: Path, names: Sequence[str], get_shape: Callable[[str], tuple[int, ...]], groups: str = "auto"
) -> NpzLayout:
    """Return the layout of a file whose arrays have these names; `get_shape` is asked only where the names say nothing.

    `groups` is ``auto`` for the most usual of the arrays that are named like groups, ``none``, or the name of one.

    Raises:
        FileError: the arrays can't be told apart, or a split lacks its images or labels.
        InvalidArgument: there is no array `groups`.
    """
    arrays = arrays_by_kind(names)
    images, labels = arrays["images"], arrays["labels"]
    if not images and not labels:
        images, labels = _arrays_by_shape({name: get_shape(name) for name in names[:_MAX_UNNAMED] if _is_plain(name)})
    in_splits = any(images) or any(labels)
    for split in [split for split in SPLITS if split in images or split in labels] if in_splits else [""]:
        for kind, by_split in (("images", images), ("labels", labels)):
            if split not in by_split:
                raise _missing_error(path, f"{split}_{kind}" if split else kind, names)
    if in_splits and "train" not in images:
        raise _missing_error(path, "train_images", names)
    splits = [split for split in SPLITS if split in images] if in_splits else [""]
    canonical = {_canonical(name): name for name in names}
    kept = [{split: by_split[split] for split in splits} for by_split in (images, labels)]
    groups_by_split = _groups_by_split(path, names, arrays["groups"], splits, groups)
    split_array = "" if in_splits else next((canonical[name] for name in _SPLIT_NAMES if name in canonical), "")
    flags = {
        SPLIT_OF_FLAG[text]: name for text, name in canonical.items() if text in SPLIT_OF_FLAG and text.startswith("is")
    }
    flags = {} if in_splits or split_array else flags
    class_names = next((canonical[name] for name in _CLASS_NAMES if name in canonical), "")
    read = {*kept[0].values(), *kept[1].values(), *groups_by_split.values(), split_array, class_names}
    if CONVERSION_ARRAY in names and in_splits:  # `nephros.prepare` keeps all nuclei beside those that have a class
        read.add("images")
    candidates = {name for kind in ("images", "labels") for name in names if _parse(name, kind)}
    candidates |= {name for name in names if name.endswith(("images", "labels"))}
    usual_names = [f"{split}_{kind}" for kind in ("images", "labels") for split in SPLITS]
    notes: tuple[str, ...] = ()
    if [*kept[0].values(), *kept[1].values()] not in (usual_names, ["images", "labels"], ["volumes", "labels"]):
        notes = (f"images from {join_words(kept[0].values())}, labels from {join_words(kept[1].values())}",)
    images, labels = kept
    return NpzLayout(
        images, labels, groups_by_split, split_array, flags, class_names, tuple(sorted(candidates - read)), notes
    )


def _groups_by_split(
    path: Path, names: Sequence[str], arrays: Mapping[str, str], splits: Sequence[str], groups: str
) -> dict[str, str]:
    """Return split -> the array of its groups."""
    if groups == "none":
        return {}
    if groups == "auto":
        return {split: name for split, name in arrays.items() if split in splits}
    name_of_groups = _canonical(groups)
    by_split = {
        split: name
        for split in splits
        for name in names
        if name_of_groups and _canonical(name) in {split + name_of_groups, name_of_groups + split} and _is_plain(name)
    }
    if not by_split:
        candidates = [name for name in names if (parsed := _parse(name, "groups")) is not None and parsed[0] in splits]
        allowed = ", ".join(("auto", "none", *candidates))
        raise InvalidArgument("groups", groups, f"one of {allowed} for {path.name}, which has no array of that name")
    return by_split


def arrays_by_kind(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return kind (images, labels, groups) -> split -> array, for the arrays whose names say so; "" stands for no split."""
    ranked: dict[str, dict[str, list[tuple[int, str]]]] = {kind: {} for kind in _KINDS}
    for name in names:
        for kind in _KINDS:
            if parsed := _parse(name, kind):
                ranked[kind].setdefault(parsed[0], []).append((parsed[1], name))
    by_kind = {kind: {split: min(pairs)[1] for split, pairs in by_split.items()} for kind, by_split in ranked.items()}
    held_out = "val" if "test" in by_kind["images"] else "test"
    for by_split in by_kind.values():
        if holdout := by_split.pop(HOLDOUT, ""):
            by_split.setdefault(held_out, holdout)
    return by_kind


def find_image_arrays(names: Sequence[str], get_shape: Callable[[str], tuple[int, ...]]) -> dict[str, str]:
    """Return array -> split for the arrays of images, in the file's order; "" stands for no split.

    Where names say nothing, the only array of three or four dimensions is it.
    """
    split_of_array = {name: split for split, name in arrays_by_kind(names)["images"].items()}
    if split_of_array:
        return {name: split_of_array[name] for name in names if name in split_of_array}
    images = [name for name in names[:_MAX_UNNAMED] if _is_plain(name) and len(get_shape(name)) in (3, 4)]
    return {images[0]: ""} if len(images) == 1 else {}


def holds_volumes(name: str) -> bool:
    """Return whether an array of images holds volumes, (n, d, h, w), as its name says: ``volumes``, ``train_volumes``."""
    parsed = _parse(name, "images")
    return parsed is not None and "volume" in _canonical(name)


def _parse(name: str, kind: str) -> tuple[str, int] | None:
    """Return the split of an array of this kind, "" for none, and how unusual its name is; None for one of another kind."""
    text, words = _canonical(name), _KINDS[kind]
    if not _is_plain(name):
        return None
    if (rank := _rank(text, kind)) is not None:
        return "", rank
    for word, split in SPLIT_OF_WORD.items():
        for rest in {text.removeprefix(word), text.removesuffix(word)} - {text}:
            if (rank := _rank(rest, kind)) is not None:
                return split, rank + (0 if word == split else len(words))
    return None


def _rank(text: str, kind: str) -> int | None:
    """Return how usual a name is for an array of this kind, from 0; None for one of another kind."""
    words = _KINDS[kind]
    return group_column_rank(text) if kind == "groups" else words.index(text) if text in words else None


def _is_plain(name: str) -> bool:
    """Return whether a name is that of an array, and no path of another file in the archive."""
    return re.fullmatch(r"\w[\w .-]*", name) is not None


def _canonical(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _arrays_by_shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the arrays of images and of labels, where shapes leave no doubt; none otherwise."""
    images = [name for name, shape in shapes.items() if len(shape) in (3, 4)]
    labels = [
        name for name, shape in shapes.items() if len(shape) in (1, 2) and images and shape[0] == shapes[images[0]][0]
    ]
    return ({"": images[0]}, {"": labels[0]}) if len(images) == len(labels) == 1 else ({}, {})


def _missing_error(path: Path, name: str, names: Sequence[str]) -> FileError:
    contents = f"the arrays {', '.join(names[:8])}"[:200] if names else "nothing"
    return FileError(path, f"{path} has no {name}; {EXPECTED_LAYOUT}. It has {contents}.")
