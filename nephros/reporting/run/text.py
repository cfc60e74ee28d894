"""What a report says in words: the caveats, and how the run was made."""

from __future__ import annotations

from typing import Any

from nephros.data.dataset import WORD
from nephros.data.medmnist import CATALOGUE
from nephros.evaluation.leaderboard import Standing, of_run
from nephros.evaluation.published import KEY
from nephros.reporting.run.run_contents import Contents


def caveats(contents: Contents) -> list[str]:
    """Return the sentences that a reader must know before the numbers."""
    info, split = contents.info, contents.headline
    found = []
    if contents.folder.synthetic:
        found.append("The cells are synthetic, made up by nephros: no number here says anything about kidneys.")
    if not contents.complete:
        epochs = f": {len(contents.history)} of {contents.recipe.epochs} epochs are over"
        done = "" if contents.recipe.classical else epochs
        how = f"; go on with: nephros train --resume {contents.folder.root}" if info.request["source"] else ""
        found.append(f"This run has not finished{done}{how}.")
    if info.data["key"] and info.data["split"] != "official":
        name = info.data["name"]
        found.append(
            f"The data bears the name {name}, but it is not the published file: its split is another, so its numbers can't be "
            f"set beside published ones on the official {name} test split as if they were measured on the same cells."
        )
    if "test" not in contents.metrics:
        found.append(
            "The test split has not been scored. Every result here is on validation, which steers training "
            "and the choice of recipe and flatters accordingly."
        )
    if len(contents.reads) > 1:
        found.append(
            f"The test split has been read {len(contents.reads)} times: whatever was chosen after the first reading is no "
            "longer blind to it."
        )
    if split:
        missing = [
            name
            for name, row in zip(contents.names, contents.metrics[split]["per_class"], strict=True)
            if not row["support"]
        ]
        if missing:
            found.append(
                f"The {WORD[split]} split lacks {'; '.join(missing)}: macro figures are means over the other classes."
            )
    return [*found, *(warning for warning in info.warnings if warning not in found)]


def never_called(contents: Contents, split: str) -> list[str]:
    """Return the names of the classes that the model never answered on a split."""
    matrix = contents.metrics[split]["confusion_matrix"]
    return [name for c, name in enumerate(contents.names) if not any(row[c] for row in matrix)]


def own_standing(contents: Contents) -> Standing | None:
    """Return the run as a row beside published results; None unless its data is TissueMNIST's and it has been scored."""
    split = contents.headline
    if contents.info.data["key"] != KEY or split is None:
        return None
    return of_run(
        contents.info,
        contents.recipe,
        contents.metrics[split],
        split,
        method=f"this run: {contents.info.recipe}",
        source="this report",
    )


def making(contents: Contents) -> list[tuple[str, str]]:
    """Return how the run was made, as (what, value) lines; those with a value in code type end in a colon."""
    info, shape = contents.info, contents.info.shape
    spent = "in trying combinations" if contents.tried else "in training epochs"
    minutes = "not finished" if info.training_minutes is None else f"{info.training_minutes:.1f} minutes {spent}"
    channels = {1: "grey", 3: "colour"}.get(shape["channels"], f"{shape['channels']} channels")
    mean, std = (", ".join(f"{value:.4g}" for value in info.normalisation[key]) for key in ("mean", "std"))
    kept = f"epoch {info.chosen_epoch} of {len(contents.history)}" if info.chosen_epoch else "none yet"
    classical = bool(contents.tried)
    views = f", in each of {info.views} views at test time" if info.views > 1 else ""
    return [
        ("Recipe", f"{info.recipe} (hash {info.recipe_hash})"),
        ("Made by", info.command or "a call from Python"),
        *(
            ("Taught by", f"{one['run']} ({one['recipe']}, weights {one['weights_sha256'][:16]})")
            for one in info.teachers
        ),
        ("Seed", str(info.seed)),
        ("Device", info.device),
        ("Training time", minutes),
        ("Chosen on validation", info.combination) if classical else ("Weights kept", kept),
        ("Numbers stored" if classical else "Parameters", f"{info.parameters:,}"),
        ("Multiply-adds", f"{info.multiply_adds:,} an image{views}"),
        ("Input", f"{shape['height']} x {shape['width']} pixels, {channels}, {shape['classes']} classes"),
        ("Normalisation", f"mean {mean}; standard deviation {std} (of pixels / 255)"),
        ("Begun", info.created),
        ("Commit", info.commit or "not in a git checkout"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
    ]


def provenance(data: dict[str, Any], request: dict[str, Any]) -> list[tuple[str, str]]:
    """Return where the data came from, as (what, value) lines, from its provenance and how it was opened."""
    asked = ", ".join(f"{key} {value}" for key, value in request.items() if value not in (None, ""))
    licence = CATALOGUE[data["key"]].licence if data["key"] in CATALOGUE else ""
    lines = [
        ("Data", data["title"]),
        ("Detail", data["detail"]),
        ("Path", data["path"] or "made in memory"),
        ("SHA-256", data["sha256"]),
        ("Opened by", asked),
        ("Licence of the published set", licence),
    ]
    return [(what, value) for what, value in lines if value]
