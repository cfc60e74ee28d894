"""What the benchmarks time: data, a recipe's training step, and endless streams of batches, steps and matrix products."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from benchmarks.common import Settings
from nephros.data.augment import augment, draw
from nephros.data.batches import Batches
from nephros.data.dataset import Dataset, Split
from nephros.data.load import load, locate
from nephros.data.synthetic import make
from nephros.models.input_spec import Shape
from nephros.recipe import Recipe
from nephros.training.model_init import fresh_model
from nephros.training.trainer import Fit

TRAIN_IMAGES = 165_466
"""In TissueMNIST's train split."""
LR = 0.0
"""A step costs the same at any rate. At 0 the weights stay as drawn, so that no contender, for having trained longer,
falls into gradients so small (denormal numbers) that they are slow to multiply."""


def open_data(settings: Settings) -> tuple[Split, str]:
    """Return a train split and its title: TissueMNIST where it is at hand, else synthetic cells repeated to that size."""
    return open_split(settings.quick, real=settings.data == "auto")


def open_split(quick: bool, real: bool = True) -> tuple[Split, str]:
    """Return what `open_data` does; `quick` makes few synthetic cells where the real ones are not at hand or not wanted."""
    if real and locate("tissuemnist"):
        dataset = load("tissuemnist")
        return dataset.train, dataset.provenance.title
    dataset = make(n_train=512 if quick else 8192, n_val=8, n_test=8)
    return _repeated(dataset, 512 if quick else TRAIN_IMAGES), dataset.provenance.title


def _repeated(dataset: Dataset, n: int) -> Split:
    rows = np.arange(n) % len(dataset.train)
    return Split(dataset.train.images[rows], dataset.train.labels[rows])


def shape_of(split: Split) -> Shape:
    """Return the shape of a split of grey images in TissueMNIST's 8 classes."""
    _, height, width = split.images.shape
    return Shape(1, height, width, 8)


def fit_of(recipe: Recipe, split: Split, device: torch.device) -> Fit:
    """Return the recipe's run over a grey split, ready for steps."""
    shape = shape_of(split)
    model = fresh_model(recipe, split, shape)
    batches = Batches(split, device, channels_last=recipe.channels_last)
    fit = Fit(recipe, model, batches, batches, tuple(str(label) for label in range(shape.classes)))
    fit.model.train()
    return fit


def batches_of(fit: Fit) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled and augmented batches for ever, drawn as `Fit` draws them: whole epochs, one after another."""
    n, settings = len(fit.train_batches), fit.recipe.augment
    for epoch in itertools.count():
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(n, generator=generator)
        draws = draw(n, settings, generator).to(fit.device)
        for rows, images, labels in fit.train_batches.read(fit.recipe.batch_size, order):
            yield augment(images, draws[rows], settings), labels


def steps(fit: Fit, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[float]:
    """Take a training step on each batch; yield its number of images."""
    for images, labels in batches:
        fit.step(images, labels, LR)
        yield len(labels)


def products(device: torch.device, dtype: torch.dtype | None) -> Iterator[float]:
    """Multiply matrices, in turn in every way below, for ever; yield a product's operations.

    On a GPU: two large squares. On a CPU: squares that fit a core's cache and squares that don't, and the product that a
    convolution is, since its library (oneDNN) may take twice the squares' (MKL) rate: the fastest is the machine's.
    `dtype` None is full precision; on GPUs that allows TF32, as their convolutions do by default.
    """
    kind: dict[str, Any] = {"device": device, "dtype": dtype or torch.float32}
    on_gpu = device.type == "cuda"
    squares = [torch.randn(2, side, side, **kind) for side in ((8192,) if on_gpu else (384, 1024))]
    ways = [(partial(torch.mm, a, b, out=torch.empty_like(a)), 2.0 * len(a) ** 3) for a, b in squares]
    if not on_gpu:
        maps, filters = torch.randn(8, 256, 28, 28, **kind), torch.randn(256, 256, 3, 3, **kind)
        last = [tensor.to(memory_format=torch.channels_last) for tensor in (maps, filters)]
        ways.append((partial(conv2d, *last, padding=1), 2.0 * maps.numel() * filters[0].numel()))
    for multiply, operations in itertools.cycle(ways):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if on_gpu else before)
        multiply()
        torch.set_float32_matmul_precision(before)
        yield operations
