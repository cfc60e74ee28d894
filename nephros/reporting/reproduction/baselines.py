"""The tables of `nephros reproduce`, as CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nephros.experiments.results import Finished
from nephros.files import write_text
from nephros.reporting.plots.label_efficiency import labels_figure
from nephros.reporting.plots.save import save
from nephros.text_tables import csv_of, markdown, shown

NOT_RUN = "not run"
NEEDS_GPU = "not run: needs a GPU"
DIVERGED = "diverged"


def write_seeds(found: Sequence[Finished], out: Path, flags: str = "") -> list[Path]:
    """Write seeds.csv and seeds.md into `out`: each row's published figures beside ours; return their paths.

    `flags` are what the command needs besides --only to make the same.
    """
    heads = [
        "recipe",
        "published_accuracy",
        "accuracy_mean",
        "accuracy_sd",
        "published_loss",
        "implied_loss",
        "loss",
        "macro_f1",
        "auc",
        "seeds",
        "epochs",
        "minutes",
        "command",
    ]
    rows = [_seeds_row(one, flags) for one in found]
    splits = [
        [one.row.label, *(shown(one.mean(key, split)) for split, key in _SPLIT_COLUMNS)] for one in found if one.seeds
    ]
    text = "\n".join(
        [
            markdown(heads, rows),
            "Published losses are as printed, and no mean an image. Implied is the printed figure times 223, the batch, for rows",
            "1, 2 and 4, and times 446 for rows 3, 5, 6 and 7: factors inferred from the figures (by 446 row 5, which always",
            "answers one class, comes to the entropy of the classes' shares), not stated by the report.",
            "",
            "By split, means over seeds:",
            "",
            markdown(["recipe", *(f"{split}_{key}" for split, key in _SPLIT_COLUMNS)], splits),
            made_by(found),
        ]
    )
    return write_both(out, "seeds", csv_of(heads, rows), text, found)


_SPLIT_COLUMNS = [(split, key) for key in ("accuracy", "loss") for split in ("train", "val", "test")]


def _seeds_row(one: Finished, flags: str) -> list[str]:
    row, published = one.row, one.row.published
    printed = ["", "", ""]
    if published is not None:
        implied = published.implied_loss
        printed = [
            f"{published.accuracy:.4f}",
            "" if published.loss is None else f"{published.loss:.6f}",
            shown(implied, 2),
        ]
    command = command_of("seeds", one, flags)
    if not one.seeds:
        return [
            row.label,
            printed[0],
            state_of(one),
            "",
            *printed[1:],
            "",
            "",
            "",
            seeds_of(one),
            str(row.recipe.epochs),
            "",
            command,
        ]
    return [
        row.label,
        printed[0],
        shown(one.mean("accuracy")),
        shown(one.sd("accuracy")),
        *printed[1:],
        *(shown(one.mean(key)) for key in ("loss", "macro_f1", "auc")),
        seeds_of(one),
        str(row.recipe.epochs),
        shown(one.minutes, 1),
        command,
    ]


def state_of(one: Finished) -> str:
    """Return what stands in place of the figures of a row without finished runs."""
    return DIVERGED if one.diverged else NEEDS_GPU if one.row.gpu else NOT_RUN


def seeds_of(one: Finished) -> str:
    """Return how many runs the means are over, and how many are missing from them since they diverged."""
    return f"{len(one.seeds)} ({len(one.diverged)} diverged)" if one.diverged else str(len(one.seeds))


def command_of(plan: str, one: Finished, flags: str) -> str:
    """Return what a user types to have a row of a plan made, as code."""
    return f"`{' '.join(['nephros reproduce', plan, '--only', one.row.needed, *([flags] if flags else [])])}`"


def write_labels(found: Sequence[Finished], out: Path, flags: str = "") -> list[Path]:
    """Write labels.csv, labels.md and labels.png (and .svg) into `out`: accuracy by training images; return their paths."""
    heads = [
        "recipe",
        "images",
        "accuracy_mean",
        "accuracy_sd",
        "macro_f1",
        "auc",
        "val_accuracy",
        "seeds",
        "minutes",
        "command",
    ]
    rows = [_labels_row(one, flags) for one in found]
    written = write_both(out, "labels", csv_of(heads, rows), "\n".join([markdown(heads, rows), made_by(found)]), found)
    if any(one.seeds for one in found):
        picture = out / f"{_tag(found)}labels.png"
        save(labels_figure(found), picture, "Test accuracy against the number of training images")
        written.append(picture)
    return written


def _labels_row(one: Finished, flags: str) -> list[str]:
    row = one.row
    command = command_of("labels", one, flags)
    if not one.seeds:
        return [row.recipe.name, "", NOT_RUN, "", "", "", "", "0", "", command]
    return [
        row.recipe.name,
        str(sum(one.infos[0].class_counts["train"])),
        shown(one.mean("accuracy")),
        shown(one.sd("accuracy")),
        shown(one.mean("macro_f1")),
        shown(one.mean("auc")),
        shown(one.mean("accuracy", "val")),
        seeds_of(one),
        shown(one.minutes, 1),
        command,
    ]


def made_by(found: Sequence[Finished]) -> str:
    """Return lines on what the runs have in common, or not: data, device and versions."""
    infos = [info for one in found for info in one.infos]
    said = {
        "data": {str(info.data["title"]) for info in infos},
        "device": {info.device for info in infos},
        "versions": {", ".join(f"{name} {version}" for name, version in info.versions.items()) for info in infos},
    }
    return "\n".join(f"{what}: {'; '.join(sorted(values))}\n" for what, values in said.items() if values)


def _tag(found: Sequence[Finished]) -> str:
    """Return what marks the files of made-up cells."""
    return "synthetic-" if any(info.data["split"] == "synthetic" for one in found for info in one.infos) else ""


def write_both(out: Path, name: str, table: str, text: str, found: Sequence[Finished]) -> list[Path]:
    """Write NAME.csv and NAME.md, marked where the cells are made up; return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{_tag(found)}{name}.{kind}" for kind in ("csv", "md")]
    for file, words in zip(files, (table, text), strict=True):
        write_text(file, words)
    return files
