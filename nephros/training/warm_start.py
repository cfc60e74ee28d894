"""A start from given weights: they replace the initial ones of a recipe's classifier, as far as the classes are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset, format_size
from nephros.data.split import Split
from nephros.data.subset import stratified_subset
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.models.classifier import Classifier, InputSpec, PretrainedModel
from nephros.models.norm_statistics import recenter_batch_norm
from nephros.models.stages import last_linear
from nephros.recipe import Recipe
from nephros.runs import InitRecord

MAX_RECENTERING_IMAGES = 4096
"""Number of training images, at most, on which folded batch normalization gets its statistics."""
_BATCH_SIZE = 256


def start_from(model: Classifier, pretrained: PretrainedModel, recipe: Recipe, dataset: Dataset) -> InitRecord:
    """Give `model`, the recipe's classifier for `dataset`, the pretrained weights and normalization; return the record of it.

    The last layer keeps its weights where the classes are the same, whatever their order, and its initial ones otherwise.
    Raises IncompatibleError, naming layer and shapes, for the weights of another network.
    """
    head = f"network.{last_linear(model.network)}"
    weights = dict(pretrained.classifier.state_dict())
    rows = _matching_rows(pretrained.class_names, dataset.class_names)
    for name in (f"{head}.weight", f"{head}.bias"):
        if rows is None:
            weights[name] = model.state_dict()[name]
        elif name in weights:  # in another network, which is refused below, the last layer may have another name
            weights[name] = weights[name][rows]
    _check_shapes(model.state_dict(), weights, pretrained, recipe, dataset)
    model.load_state_dict(weights)
    if pretrained.is_folded:
        recenter(model, dataset.train, recipe.seed)
    return {
        "source": pretrained.source,
        "recipe": pretrained.recipe,
        "sha256": pretrained.sha256,
        "head": "new" if rows is None else "kept",
    }


def overlap_warnings(pretrained: PretrainedModel, dataset: Dataset) -> tuple[str, ...]:
    """Return a warning where the weights were trained on another split of the same MedMNIST data set."""
    theirs, ours = pretrained.data, dataset.provenance
    if theirs is None or theirs.key is None or theirs.key != ours.key or theirs.sha256 == ours.sha256:
        return ()
    if theirs.split == ours.split == "official":  # at another size
        return ()
    return (
        f"The weights of {Path(pretrained.source).name} were trained on another split of {ours.name}, so that they may have seen "
        "validation and test images of this one: don't report the accuracy of this run.",
    )


def recenter(model: Classifier, train: Split, seed: int) -> None:
    """Give folded batch normalization the statistics of training images, on the model's device.

    In evaluation mode the model computes what it did before.
    """
    n_images = min(len(train), MAX_RECENTERING_IMAGES)
    batches = BatchLoader(stratified_subset(train, n_images, seed), model.mean.device)
    recenter_batch_norm(model, (images for _, images, _ in batches.iter_batches(_BATCH_SIZE)))


def check_init(recipe: Recipe, init: object, freeze: Sequence[str]) -> None:
    """Raise InvalidArgument for a start from weights that the recipe can't make, and for `freeze` without weights."""
    if freeze and init is None:
        raise InvalidArgument(
            "freeze", ", ".join(freeze), "left out without `init`: random weights can't stay as they are"
        )
    if init is not None and recipe.is_classical:
        raise InvalidArgument("init", init, f"left out: {recipe.model.network} has no initial weights")


def _matching_rows(old: tuple[str, ...], new: tuple[str, ...]) -> list[int] | None:
    """Return for each new class its row of the old last layer; None where the classes are others."""
    return [old.index(name) for name in new] if sorted(old) == sorted(new) else None


def _check_shapes(
    expected: dict[str, Tensor],
    weights: dict[str, Tensor],
    pretrained: PretrainedModel,
    recipe: Recipe,
    dataset: Dataset,
) -> None:
    start = f"The weights of `init` ({pretrained.source}) don't fit the recipe {recipe.name}"
    theirs, ours = pretrained.model, recipe.model
    next_step = (
        f"use a recipe of their network ({theirs.network} with `model.base_channels` {theirs.base_channels} and `model.depth` "
        f"{theirs.depth}), on images of their size and channels."
    )
    if theirs.network != ours.network:
        raise IncompatibleError(f"{start}: they are of the network {theirs.network}, not {ours.network}; {next_step}")
    if theirs == ours:
        next_step = _fitting_images(pretrained.input_spec, dataset)
    # The layers first: where channels differ, the normalization does too, but the first layer says more.
    for name, tensor in sorted(expected.items(), key=lambda item: not item[0].startswith("network.")):
        layer = name.removeprefix("network.")
        if name not in weights:
            raise IncompatibleError(f"{start}: they have no layer {layer}; {next_step}")
        if weights[name].shape != tensor.shape:
            shapes = (f"{'x'.join(map(str, t.shape)) or 'one number'}" for t in (weights[name], tensor))
            raise IncompatibleError(f"{start}: {layer} is {next(shapes)} there and {next(shapes)} here; {next_step}")
    if surplus := sorted(set(weights) - set(expected)):
        raise IncompatibleError(
            f"{start}: their layer {surplus[0].removeprefix('network.')} has no place here; {next_step}"
        )


def _fitting_images(spec: InputSpec, dataset: Dataset) -> str:
    """Return what to do where weights of the same network are for other images."""
    given = format_size(*dataset.image_size, dataset.channels, dataset.depth)
    required = format_size(spec.height, spec.width, spec.channels, spec.depth)
    hint = ""
    if (spec.channels, spec.depth) == (dataset.channels, dataset.depth):
        hint = f", such as by `size`={spec.height}" if spec.square_side else ""
    elif spec.channels == 1 and spec.depth is None and dataset.channels == 3:
        hint = ", such as by `channel`, or use `nephros.finetune(DATA)`, which takes color"
    return f"the data has {given}, and the weights are for {required}: give such images{hint}."
