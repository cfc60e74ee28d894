"""The texts of a report: caveats, the worst confusions, and how the run was made."""

from __future__ import annotations

import shlex
from pathlib import Path

from nephros.data.load import DataRequest
from nephros.data.medmnist import MEDMNIST
from nephros.data.provenance import ProvenanceRecord
from nephros.data.split import SPLIT_ADJECTIVES
from nephros.escaping import command_without_folders, last_part, without_folders
from nephros.evaluation.confusions import worst_confusions
from nephros.evaluation.largest_class import no_better_than_largest_class
from nephros.evaluation.leaderboard import PUBLISHED_DATASET, LeaderboardRow, row_from_run
from nephros.reporting.class_names import short_class_names
from nephros.reporting.plots.style import whole_percent
from nephros.reporting.run.run_contents import RunContents
from nephros.runs import describe_finetuning, describe_init
from nephros.text_tables import format_minutes, format_timestamp, join_words, pluralize


def caveats(contents: RunContents) -> list[str]:
    """Return what a reader must know before reading the metrics."""
    info, split = contents.info, contents.headline_split
    sentences = []
    if contents.folder.synthetic:
        sentences.append("The cells are synthetic: no number here says anything about kidneys.")
    if "val" in contents.metrics and (sentence := no_better_than_largest_class(info, contents.metrics["val"])):
        sentences.append(sentence)
    if not contents.is_complete:
        epochs = f": {len(contents.history)} of {contents.recipe.epochs} epochs are complete"
        progress = "" if contents.recipe.is_classical else epochs
        can_resume = bool(info.data_request["source"])
        next_step = f" Continue it with: nephros train --resume {shlex.quote(run_name(contents))}" if can_resume else ""
        sentences.append(f"This run has not finished{progress}.{next_step}")
    if info.data["key"] and info.data["split"] != "official":
        name = info.data["name"]
        sentences.append(
            f"The data is named {name} but is not the published file: its split differs, so these results are not directly "
            f"comparable with those published on the official {name} test split."
        )
    if "test" not in contents.metrics:
        results = (
            "Results are on validation, from which fine-tuning chose nothing, and from cross-validation where they say so."
            if info.finetuning
            else "Every result is on validation, which also guided training and the choice of recipe, so that it is optimistic."
        )
        lacks = "has not been evaluated on the test split" if "test" in contents.class_counts else "has no test split"
        sentences.append(f"This run {lacks}. {results}")
    if len(contents.test_reads) > 1:
        sentences.append(
            f"This run has been evaluated on the test split {len(contents.test_reads)} times: choices made after the first "
            "may have been influenced by it."
        )
    if split:
        missing = [
            name
            for name, row in zip(contents.class_names, contents.metrics[split].per_class, strict=True)
            if not row.support
        ]
        if missing:
            sentences.append(
                f"The {SPLIT_ADJECTIVES[split]} split has no images of {'; '.join(missing)}: macro averages are over the other "
                "classes."
            )
    warnings = [_as_sentence(without_folders(warning, known_paths(contents))) for warning in info.warnings]
    return [*sentences, *(warning for warning in warnings if warning not in sentences)]


def _as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def run_name(contents: RunContents) -> str:
    """Return the run folder as a command in this folder names it; of a folder elsewhere only its name, as pages are passed on."""
    root = contents.folder.root.absolute()
    return str(root.relative_to(Path.cwd())) if root.is_relative_to(Path.cwd()) and root != Path.cwd() else root.name


def known_paths(contents: RunContents) -> list[str]:
    """Return the paths that a run's texts may contain, which its page must not."""
    info = contents.info
    teachers = [teacher["run"] for teacher in info.teachers]
    source = str(info.data_request.get("source") or "")
    return [
        info.data["path"],
        source,
        *teachers,
        *([info.init["source"]] if info.init else []),
        str(contents.folder.root),
    ]


def describe_training(contents: RunContents) -> list[str]:
    """Return what the run was trained on and for how long: images, epochs, time and device, as phrases."""
    info = contents.info
    images = info.training_subset or f"{sum(info.class_counts['train']):,} training images"
    n_epochs = len(contents.history)
    epochs = (
        pluralize(n_epochs, "epoch")
        if contents.is_complete
        else f"{n_epochs} of {contents.recipe.epochs} epochs so far"
    )
    minutes = "" if info.training_minutes is None else format_minutes(info.training_minutes)
    phrases = [_as_sentence(images), "" if contents.search_results or not n_epochs else epochs, minutes, info.device]
    return [phrase for phrase in phrases if phrase]


def describe_worst_confusions(contents: RunContents, split: str) -> str:
    """Return the worst confusions as one sentence; empty where there are none."""
    short_names = short_class_names(contents.class_names)
    names = contents.class_names if any("…" in name for name in short_names) else short_names
    clauses = [
        f"{names[pair.actual]} {'predicted ' if rank == 0 else ''}as {names[pair.predicted]} "
        f"({whole_percent(pair.share)}{' of its images' if rank == 0 else ''})"
        for rank, pair in enumerate(worst_confusions(contents.metrics[split].confusion_matrix))
    ]
    return f"Confused most: {join_words(clauses)}." if clauses else ""


def run_leaderboard_row(contents: RunContents) -> LeaderboardRow | None:
    """Return the run's row beside published results; None unless it has been evaluated and its data is TissueMNIST."""
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
    """Return how the run was made, as (label, value) rows."""
    info, input_spec = contents.info, contents.info.input_spec
    phase = "hyperparameter search" if contents.search_results else "training epochs"
    duration = "not finished" if info.training_minutes is None else f"{format_minutes(info.training_minutes)} ({phase})"
    channels = {1: "grayscale", 3: "RGB"}.get(input_spec["channels"], f"{input_spec['channels']} channels")
    volume = f"volumes of {input_spec['depth']} slices of " if "depth" in input_spec else ""
    mean, std = (
        ", ".join(dict.fromkeys(f"{value:.4g}" for value in info.normalization[key]))
        if volume
        else ", ".join(f"{value:.4g}" for value in info.normalization[key])
        for key in ("mean", "std")
    )
    checkpoint = f"epoch {info.chosen_epoch} of {len(contents.history)}" if info.chosen_epoch else "none yet"
    checkpoint = "last layer fitted" if info.finetuning and not info.chosen_epoch else checkpoint
    is_classical = bool(contents.search_results)
    views = f", for each of {info.tta_views} views at test time" if info.tta_views > 1 else ""
    return [
        ("Recipe", f"{info.recipe} (hash {info.recipe_hash})"),
        ("Command", command_without_folders(info.command) or "a call from Python"),
        *(
            (
                "Distilled from",
                f"{last_part(teacher['run'])} ({teacher['recipe']}, weights {teacher['weights_sha256'][:16]})",
            )
            for teacher in info.teachers
        ),
        *([("Fine-tuning", describe_finetuning(info.finetuning))] if info.finetuning else []),
        *([("Started from", without_folders(describe_init(info.init), known_paths(contents)))] if info.init else []),
        *([("Frozen stages", ", ".join(info.freeze))] if info.freeze else []),
        ("Seed", str(info.seed)),
        ("Device", info.device),
        ("Training time", duration),
        ("Best hyperparameters", info.hyperparameters) if is_classical else ("Checkpoint", checkpoint),
        ("Stored values" if is_classical else "Parameters", f"{info.parameters:,}"),
        ("Multiply-adds", f"{info.multiply_adds:,} per image{views}"),
        (
            "Input",
            f"{volume}{input_spec['height']} x {input_spec['width']} pixels, {channels}, {input_spec['n_classes']} classes",
        ),
        ("Normalization", f"mean {mean}; standard deviation {std} (of pixels / 255)"),
        ("Created", format_timestamp(info.created)),
        ("Commit", info.commit or "not in a git checkout"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
    ]


def data_provenance_rows(data: ProvenanceRecord, data_request: DataRequest) -> list[tuple[str, str]]:
    """Return where the data came from, as (label, value) rows, from its provenance and the request that loads it.

    Of a path, only the last part is shown: pages are passed on, and the command has it in full.
    """
    request = {**data_request, "source": last_part(str(data_request.get("source") or ""))}
    arguments = ", ".join(f"{key} {value}" for key, value in request.items() if value not in (None, ""))
    license = MEDMNIST[data["key"]].license if data["key"] in MEDMNIST else ""
    rows = [
        ("Data", data["title"]),
        ("Detail", without_folders(data["detail"], [data["path"]])),
        ("File or folder", last_part(data["path"])),
        ("SHA-256", data["sha256"]),
        ("Loaded with", arguments),
        ("License of the published data", license),
    ]
    return [(label, value) for label, value in rows if value]
