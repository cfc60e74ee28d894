"""Names under which people keep splits: folders, values of a table's column, and parts of an array's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from nephros.data.split import SPLITS

HOLDOUT = "holdout"
"""A split that is test beside a validation split, and validation beside a test split."""
SPLIT_OF_WORD = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "development": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "holdout": HOLDOUT,
    "heldout": HOLDOUT,
    "eval": HOLDOUT,
    "evaluation": HOLDOUT,
}
"""Word -> split, in lower case; for some words what the split is depends on the others."""
SPLIT_OF_FLAG = {
    **dict.fromkeys(("train", "training", "istrain", "istraining"), "train"),
    **dict.fromkeys(("val", "validation", "isval", "isvalid", "isvalidation"), "val"),
    **dict.fromkeys(("test", "testing", "istest", "istesting"), "test"),
}
"""Name of a column or an array of truth values, in lower case without punctuation -> the split that it is about."""
_TOKEN = re.compile(rf"({'|'.join(sorted(SPLIT_OF_WORD, key=len, reverse=True))})(set|split|data|images|imgs)?[0-9]*")
_FILLERS = re.compile("(set|split|data|dataset|images?|imgs?|folder|files?|[0-9]+)")


class DuplicateSplitError(ValueError):
    """Two names stand for one split."""


def find_splits(names: Iterable[str]) -> dict[str, str]:
    """Return split -> name for those names that stand for a split; ``Train``, ``valid``, ``test_set`` and ``cells-train`` do.

    Names count only together: with train, or two of them. The plainest wins, so that ``val`` beside ``dev`` and ``train``
    beside ``train_old`` are the splits; numbers, and words such as ``set`` and ``images``, are left aside, and a further word
    must be the same for all splits.

    Raises:
        DuplicateSplitError: two names, none plainer than the other, stand for one split.
    """
    by_affix: dict[str, dict[str, list[tuple[int, str]]]] = {}
    for name in names:
        if parsed := _parse(name):
            split, affix, rank = parsed
            by_affix.setdefault(affix, {}).setdefault(split, []).append((rank, name))
    sets = {
        affix: ranked for affix, ranked in by_affix.items() if len(ranked) > 1 or (affix == "" and "train" in ranked)
    }
    if not sets:
        return {}
    if len(sets) > 1 and "" not in sets:
        first, second = (min(next(iter(ranked.values())))[1] for ranked in list(sets.values())[:2])
        raise DuplicateSplitError(f"{first} and {second} belong to two sets of splits")
    splits = {split: _plainest(split, ranked) for split, ranked in sets.get("", next(iter(sets.values()))).items()}
    if holdout := splits.pop(HOLDOUT, ""):
        splits.setdefault("val" if "test" in splits else "test", holdout)
    return {split: splits[split] for split in SPLITS if split in splits}


def split_of_flags(flags: Mapping[str, bool]) -> str:
    """Return the split of an image of which truth values say whether it is of train, of val and of test, or of some of these.

    One that is of none of them is of the first split that has no truth value: train, test, val.

    Raises:
        ValueError: it is of several splits, or of none of three.
    """
    splits = [split for split, is_member in flags.items() if is_member]
    splits = splits or [split for split in ("train", "test", "val") if split not in flags][:1]
    if len(splits) != 1:
        raise ValueError(f"of {len(splits)} splits, but each image is of one")
    return splits[0]


def is_split_word(name: str) -> bool:
    """Return whether a name alone is a word for a split, such as ``Train`` or ``VALIDATION``."""
    parsed = _parse(name)
    return parsed is not None and parsed[2] < 2


def _plainest(split: str, ranked: list[tuple[int, str]]) -> str:
    ranked = sorted(ranked)
    if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
        raise DuplicateSplitError(f"{ranked[0][1]} and {ranked[1][1]} both stand for {split}")
    return ranked[0][1]


def _parse(name: str) -> tuple[str, str, int] | None:
    """Return the split that a name may stand for, the other words in it, and how plain it is: 0 for the split's own name."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    tokens = re.sub(r"[\W_]+", " ", text).casefold().strip()
    tokens = re.sub(r"\b(hold|held) ?out\b", "holdout", tokens)
    words, splits = [], []
    for token in tokens.split():
        if match := _TOKEN.fullmatch(token):
            splits.append(SPLIT_OF_WORD[match[1]])
        elif not _FILLERS.fullmatch(token):
            words.append(token)
    if len(splits) != 1:
        return None
    return splits[0], " ".join(words), 0 if tokens == splits[0] else 1 if tokens in SPLIT_OF_WORD else 2
