"""Models that another is distilled from: finished runs, exported files, or bundled models."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from nephros.errors import FileError, IncompleteError, InvalidArgument
from nephros.evaluation.scoring import load_run_model
from nephros.exporters.pretrained import open_pretrained
from nephros.exporters.safetensors_io import SAFETENSORS_FORMAT, load_safetensors
from nephros.files import file_digest
from nephros.inference.bundled import bundled_file
from nephros.inference.model_names import bundled_model_name
from nephros.models.serialization import file_format
from nephros.runs import InputSpecRecord, RunFolder
from nephros.training.distillation import Teacher


def open_teacher(source: str | Path) -> Teacher:
    """Open a teacher: a bundled model's name or ``bundled``, the folder of a complete run, or an exported .safetensors file.

    Raises UnknownName for a name that is neither a model nor a path, FileError for a file that can't be read or names no data,
    IncompleteError for a run that is not finished, and InvalidArgument for one that diverged.
    """
    if Path(source).expanduser().is_dir():
        return _from_run(RunFolder.open(source))
    pretrained = open_pretrained(source, parameter="teachers")
    bundled = bundled_model_name(pretrained.source)
    path = bundled_file("model.safetensors", bundled) if bundled else Path(pretrained.source)
    if file_format(path) != SAFETENSORS_FORMAT:
        raise FileError(
            path,
            f"{path} doesn't say what data its weights were trained on: name their run folder, or the file that "
            "`nephros.export(RUN, format='safetensors')` writes, as `teachers`.",
        )
    _, card = load_safetensors(path)
    spec = pretrained.input_spec
    return Teacher(
        pretrained.classifier,
        cast(InputSpecRecord, spec.to_dict()),
        pretrained.class_names,
        card["data"]["sha256"],
        card["data"]["detail"],
        {
            "run": pretrained.source,
            "recipe": card["recipe"],
            "recipe_hash": card["recipe_hash"],
            "weights_sha256": pretrained.sha256,
        },
    )


def _from_run(folder: RunFolder) -> Teacher:
    info = folder.info()
    if info.status == "diverged":
        raise InvalidArgument("teachers", folder.root, "a list of complete runs, but this one diverged")
    if info.status != "complete":
        raise IncompleteError(
            f"The teacher {folder.root} is not complete: resume it first with `nephros.resume({str(folder.root)!r})`."
        )
    return Teacher(
        load_run_model(folder),
        info.input_spec,
        tuple(info.class_names),
        info.data["sha256"],
        info.data["detail"],
        {
            "run": str(folder.root.absolute()),
            "recipe": info.recipe,
            "recipe_hash": info.recipe_hash,
            "weights_sha256": file_digest(folder.file("weights.safetensors")),
        },
    )
