"""Names of folders, files, columns and arrays that stand for patients, animals, slides or folds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

_WORDS = "patient|pat|pt|case|subject|subj|sub|donor|participant|individual|animal|mouse|rat|slide|specimen|biopsy"
_GROUP_FOLDER = re.compile(
    f"({_WORDS}|id|sample|fold|cv|batch|plate|experiment|exp|replicate)[ _-]*[a-z]{{0,2}}[ _-]*[0-9]+[a-z]?|"
    "[ps][0-9]{2,}|[0-9]{3,}"
)
"""Names of folders, in lower case, such as P01, patient 7, mouse_3b and fold_1."""
_GROUP_IN_FILE = re.compile(rf"(?<![^\W_])((?:{_WORDS})[ _-]?[0-9]+[a-z]?|p[0-9]{{2,}})(?![^\W_])", re.IGNORECASE)
"""Part of a file's name, such as P01 in P01_cell3 and mouse 3b in "mouse 3b, 17"."""
_COLUMNS = (
    "group", "patient", "subject", "donor", "participant", "individual", "animal", "mouse", "rat", "case", "lesion", "biopsy",
    "specimen", "sample", "slide", "wsi", "stack", "fold", "kfold", "cvfold",
)  # fmt: skip
"""Names of columns and arrays, in lower case without punctuation, which a word such as "id" may follow; the first one wins."""
_COLUMN_SUFFIX = "(s|ids?|no|nr|num|number|name|code|key)?"
_MIN_SHARE, _MIN_IMAGES_PER_GROUP = 0.9, 2


def group_column_rank(name: str) -> int | None:
    """Return how usual the name of a column or an array of groups is, from 0; None for one that is no such name.

    `name` is in lower case, without punctuation.
    """
    return next((rank for rank, word in enumerate(_COLUMNS) if re.fullmatch(word + _COLUMN_SUFFIX, name)), None)


def is_group_folder(name: str) -> bool:
    """Return whether a folder is named like a patient, an animal, a slide or a fold."""
    return _GROUP_FOLDER.fullmatch(name.casefold()) is not None


def group_in_file_name(stem: str) -> str:
    """Return the part of a file's name that stands for a patient or the like; empty where there is none."""
    match = _GROUP_IN_FILE.search(stem)
    return match[1].casefold() if match else ""


def file_name_warnings(stems: Collection[str]) -> tuple[str, ...]:
    """Return a warning where nearly all files are named for patients or the like, with several images of each."""
    groups = Counter(group for stem in stems if (group := group_in_file_name(stem)))
    n_named = groups.total()
    if len(groups) < 2 or n_named < _MIN_SHARE * len(stems) or n_named < _MIN_IMAGES_PER_GROUP * len(groups):
        return ()
    return (
        f"the files are named for {len(groups):,} patients, slides or the like, such as {next(iter(groups))}, but are split one "
        "by one, so that those of one patient may be in train and in test; give `groups` as names to keep them together.",
    )


def class_name_warnings(class_names: Collection[str]) -> tuple[str, ...]:
    """Return a warning where all classes are named like patients or the like, which are hardly what is to be told apart."""
    if not all(is_group_folder(name) and not name.isdecimal() for name in class_names):
        return ()
    return (f"the classes are named like patients, slides or folds: {_shorten(class_names)}; check the folders.",)


def _shorten(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
