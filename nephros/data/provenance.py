"""Where a data set comes from, which every result that is made with it carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NotRequired, TypedDict, cast

from nephros.escaping import escape_surrogates

SPLIT_DIGEST = "split digest "
"""Begins the part of `Provenance.detail` that tells how data given in Python is divided into splits and groups."""


class ProvenanceRecord(TypedDict):
    """`Provenance` as run.json, study.json and metrics.json hold it, with its title."""

    name: str
    split: str
    path: str
    sha256: str
    key: str | None
    detail: str
    title: str
    full_train_images: NotRequired[int | None]
    """Absent in records of earlier versions, as is ``n_groups``."""
    n_groups: NotRequired[int | None]


@dataclass(frozen=True)
class Provenance:
    """Where a data set comes from. Every result that is made with the data set carries it."""

    name: str
    """For people: ``TissueMNIST``, the name of the file or folder, or ``synthetic nuclei``."""
    split: Literal["official", "own", "synthetic"]
    """``official`` where the file's MD5 is the published one, ``synthetic`` for synthetic cells, else ``own``."""
    path: str
    """Absolute path of the file or folder; empty for synthetic cells."""
    sha256: str
    """SHA-256 of the file's bytes, of a folder's file names and bytes, or of synthetic cells' arrays."""
    key: str | None = None
    """Key in `nephros.data.medmnist.MEDMNIST`, such as ``tissuemnist``, or None for any other data set."""
    detail: str = ""
    """How the split was drawn and how the images were changed, where that is known."""
    full_train_images: int | None = None
    """Images that train would have if none had been left out; None where none was."""
    n_groups: int | None = None
    """Number of groups, such as patients, where they are known; splits that are drawn here keep the images of each together."""

    def __post_init__(self) -> None:
        """Make name and detail, which may hold names of files that are not text, fit for files and figures."""
        for field in ("name", "detail"):
            object.__setattr__(self, field, escape_surrogates(getattr(self, field)))

    @property
    def title(self) -> str:
        """The name in every table and figure; of a MedMNIST data set with its split, such as ``TissueMNIST, own split``."""
        if self.split == "synthetic":
            return self.name if "synthetic" in self.name else f"{self.name}, synthetic"
        return f"{self.name}, {self.split} split" if self.key else self.name

    def to_dict(self) -> ProvenanceRecord:
        """Return the fields and the title as plain JSON values."""
        return cast(ProvenanceRecord, {**asdict(self), "title": self.title})


def describe_training_subset(n_images: int, provenance: Mapping[str, Any]) -> str:
    """Return such as ``subset: 1,000 of 165,466 training images``, or "" where training used all of them.

    `provenance` is `Provenance.to_dict`; one from before it had `full_train_images` has only ``detail`` to tell.
    """
    if "full_train_images" not in provenance:
        is_subset = "train subset of " in (provenance.get("detail") or "")
        return f"subset: {n_images:,} training images" if is_subset else ""
    full_train_images = provenance["full_train_images"]
    return "" if full_train_images is None else f"subset: {n_images:,} of {full_train_images:,} training images"
