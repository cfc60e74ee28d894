"""What a report says in words: the caveats, and how the run was made."""

from __future__ import annotations

from typing import Any

from nephros.data.dataset import SPLIT_ADJECTIVES
from nephros.data.medmnist import MEDMNIST
from nephros.evaluation.leaderboard import LeaderboardRow, row_from_run
from nephros.evaluation.published import PUBLISHED_DATASET
from nephros.reporting.run.run_contents import RunContents


def caveats(contents: RunContents) -> list[str]:
    """Return the sentences that a reader must know before the numbers."""
    info, split = contents.info, contents.headline_split
    sentences = []
    if contents.folder.synthetic:
        sentences.append("The cells are synthetic, made up by nephros: no number here says anything about kidneys.")
    if not contents.is_complete:
        epochs = f": {len(contents.history)} of {contents.recipe.epochs} epochs are over"
        progress = "" if contents.recipe.is_classical else epochs
        next_step = (
            f"; go on with: nephros train --resume {contents.folder.root}" if info.data_request["source"] else ""
        )
        sentences.append(f"This run has not finished{progress}{next_step}.")
    if info.data["key"] and info.data["split"] != "official":
        name = info.data["name"]
        sentences.append(
            f"The data bears the name {name}, but it is not the published file: its split is another, so its numbers can't be "
            f"set beside published ones on the official {name} test split as if they were measured on the same cells."
        )
    if "test" not in contents.metrics:
        sentences.append(
            "The test split has not been scored. Every result here is on validation, which steers training "
            "and the choice of recipe and flatters accordingly."
        )
    if len(contents.test_reads) > 1:
        sentences.append(
            f"The test split has been read {len(contents.test_reads)} times: whatever was chosen after the first reading is no "
            "longer blind to it."
        )
    if split:
        missing = [
            name
            for name, row in zip(contents.class_names, contents.metrics[split]["per_class"], strict=True)
            if not row["support"]
        ]
        if missing:
            sentences.append(
                f"The {SPLIT_ADJECTIVES[split]} split lacks {'; '.join(missing)}: macro figures are means over the other classes."
            )
    return [*sentences, *(warning for warning in info.warnings if warning not in sentences)]


def never_predicted(contents: RunContents, split: str) -> list[str]:
    """Return the names of the classes that the model never answered on a split."""
    matrix = contents.metrics[split]["confusion_matrix"]
    return [name for c, name in enumerate(contents.class_names) if not any(row[c] for row in matrix)]


def run_leaderboard_row(contents: RunContents) -> LeaderboardRow | None:
    """Return the run as a row beside published results; None unless its data is TissueMNIST's and it has been scored."""
    split = contents.headline_split
    if contents.info.data["key"] != PUBLISHED_DATASET or split is None:
        return None
    return row_from_run(
        contents.info,
        contents.recipe,
        contents.metrics[split],
        split,
        method=f"this run: {contents.info.recipe}",
        source="this report",
    )


def provenance_rows(contents: RunContents) -> list[tuple[str, str]]:
    """Return how the run was made, as (what, value) lines; those with a value in code type end in a colon."""
    info, input_spec = contents.info, contents.info.input_spec
    phase = "in trying combinations" if contents.search_results else "in training epochs"
    minutes = "not finished" if info.training_minutes is None else f"{info.training_minutes:.1f} minutes {phase}"
    channels = {1: "grey", 3: "colour"}.get(input_spec["channels"], f"{input_spec['channels']} channels")
    mean, std = (", ".join(f"{value:.4g}" for value in info.normalization[key]) for key in ("mean", "std"))
    weights_kept = f"epoch {info.chosen_epoch} of {len(contents.history)}" if info.chosen_epoch else "none yet"
    is_classical = bool(contents.search_results)
    views = f", in each of {info.tta_views} views at test time" if info.tta_views > 1 else ""
    return [
        ("Recipe", f"{info.recipe} (hash {info.recipe_hash})"),
        ("Made by", info.command or "a call from Python"),
        *(
            ("Taught by", f"{teacher['run']} ({teacher['recipe']}, weights {teacher['weights_sha256'][:16]})")
            for teacher in info.teachers
        ),
        ("Seed", str(info.seed)),
        ("Device", info.device),
        ("Training time", minutes),
        ("Chosen on validation", info.hyperparameters) if is_classical else ("Weights kept", weights_kept),
        ("Numbers stored" if is_classical else "Parameters", f"{info.parameters:,}"),
        ("Multiply-adds", f"{info.multiply_adds:,} an image{views}"),
        (
            "Input",
            f"{input_spec['height']} x {input_spec['width']} pixels, {channels}, {input_spec['n_classes']} classes",
        ),
        ("Normalisation", f"mean {mean}; standard deviation {std} (of pixels / 255)"),
        ("Begun", info.created),
        ("Commit", info.commit or "not in a git checkout"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
    ]


def data_provenance_rows(data: dict[str, Any], data_request: dict[str, Any]) -> list[tuple[str, str]]:
    """Return where the data came from, as (what, value) lines, from its provenance and how it was opened."""
    arguments = ", ".join(f"{key} {value}" for key, value in data_request.items() if value not in (None, ""))
    license = MEDMNIST[data["key"]].license if data["key"] in MEDMNIST else ""
    rows = [
        ("Data", data["title"]),
        ("Detail", data["detail"]),
        ("Path", data["path"] or "made in memory"),
        ("SHA-256", data["sha256"]),
        ("Opened by", arguments),
        ("Licence of the published set", license),
    ]
    return [(label, value) for label, value in rows if value]
