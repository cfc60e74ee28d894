"""The tables of `nephros reproduce`, as CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nephros.evaluation.finished import Finished, shown
from nephros.files import write_text
from nephros.reporting.labels import labels_figure
from nephros.reporting.save import save
from nephros.reporting.tabular import csv_of, markdown

NOT_RUN = "not run"
NEEDS_GPU = "not run: needs a GPU"


def write_seeds(found: Sequence[Finished], out: Path) -> list[Path]:
    """Write seeds.csv and seeds.md into `out`: each row's published figures beside ours; return their paths."""
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
    splits = [[_split(one, split, key) for split, key in _SPLIT_COLUMNS] for one in found if one.seeds]
    text = "\n".join(
        [
            markdown(heads, [_seeds_row(one) for one in found]),
            "Published losses are as printed; implied is what they come to an image, if they are divided by the batch.",
            "",
            "By split, means over seeds:",
            "",
            markdown(
                ["recipe", *(f"{split}_{key}" for split, key in _SPLIT_COLUMNS)],
                [[one.row.label, *line] for one, line in zip((one for one in found if one.seeds), splits, strict=True)],
            ),
            _made(found),
        ]
    )
    return _write(out, "seeds", csv_of(heads, [_seeds_row(one) for one in found]), text)


_SPLIT_COLUMNS = [(split, key) for key in ("accuracy", "loss") for split in ("train", "val", "test")]


def _split(one: Finished, split: str, key: str) -> str:
    return shown(one.mean(key, split))


def _seeds_row(one: Finished) -> list[str]:
    row, published = one.row, one.row.published
    printed = ["", "", ""]
    if published is not None:
        implied = published.implied_loss
        printed = [
            f"{published.accuracy:.4f}",
            "" if published.loss is None else f"{published.loss:.6f}",
            shown(implied, 2),
        ]
    command = f"`nephros reproduce seeds --only {row.key}`"
    if not one.seeds:
        state = NEEDS_GPU if row.gpu else NOT_RUN
        return [row.label, printed[0], state, "", *printed[1:], "", "", "", "0", str(row.recipe.epochs), "", command]
    return [
        row.label,
        printed[0],
        shown(one.mean("accuracy")),
        shown(one.sd("accuracy")),
        *printed[1:],
        *(shown(one.mean(key)) for key in ("loss", "macro_f1", "auc")),
        str(len(one.seeds)),
        str(row.recipe.epochs),
        shown(one.minutes, 1),
        command,
    ]


def write_labels(found: Sequence[Finished], out: Path) -> list[Path]:
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
    rows = [_labels_row(one) for one in found]
    written = _write(out, "labels", csv_of(heads, rows), "\n".join([markdown(heads, rows), _made(found)]))
    if any(one.seeds for one in found):
        picture = out / "labels.png"
        save(labels_figure(found), picture, "Test accuracy against the number of training images")
        written.append(picture)
    return written


def _labels_row(one: Finished) -> list[str]:
    row = one.row
    command = f"`nephros reproduce labels --only {row.key}`"
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
        str(len(one.seeds)),
        shown(one.minutes, 1),
        command,
    ]


def _made(found: Sequence[Finished]) -> str:
    """Return lines on what the runs have in common, or not: data, device and versions."""
    infos = [info for one in found for info in one.infos]
    said = {
        "data": {str(info.data["title"]) for info in infos},
        "device": {info.device for info in infos},
        "versions": {", ".join(f"{name} {version}" for name, version in info.versions.items()) for info in infos},
    }
    return "\n".join(f"{what}: {'; '.join(sorted(values))}\n" for what, values in said.items() if values)


def _write(out: Path, name: str, table: str, text: str) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{name}.csv", out / f"{name}.md"]
    for file, words in zip(files, (table, text), strict=True):
        write_text(file, words)
    return files
