"""Whether a run's model can be scored on a data set."""

from __future__ import annotations

from nephros.data.dataset import Dataset
from nephros.errors import NephrosError
from nephros.runs import RunFolder, RunInfo


def check_compatible(folder: RunFolder, info: RunInfo, class_names: tuple[str, ...], dataset: Dataset) -> None:
    """Raise UserError when a run's model can't be scored on `dataset`."""
    argument, spec = f"--data {dataset.provenance.title}", info.input_spec
    shape = (dataset.channels, dataset.n_classes)
    if shape != (spec["channels"], spec["n_classes"]):
        raise NephrosError(
            f"{argument} has {shape[0]} channels and {shape[1]} classes, but {folder.root} was trained with "
            f"{spec['channels']} and {spec['n_classes']}: name data like its own."
        )
    if dataset.image_size != (spec["height"], spec["width"]):
        raise NephrosError(
            f"{argument} has images of {dataset.image_size[0]}x{dataset.image_size[1]} pixels, but {folder.root} was trained on "
            f"{spec['height']}x{spec['width']}: resize them first."
        )
    if dataset.class_names != class_names and set(dataset.class_names) == set(class_names):
        raise NephrosError(
            f"{argument} has the classes of {folder.root} in another order ({', '.join(dataset.class_names)}): "
            f"number them as the run does ({', '.join(class_names)})."
        )
