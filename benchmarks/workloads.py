"""The workloads that benchmarks time: data, training steps of a recipe, and endless streams of batches and matrix products."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from benchmarks.common import BenchmarkConfig
from nephros.data.augment import apply_augmentations, sample_augmentations
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.load import find_local_file, load_dataset
from nephros.data.split import Split
from nephros.data.synthetic import make_synthetic
from nephros.models.classifier import InputSpec
from nephros.recipe import Recipe
from nephros.training.model_init import init_model
from nephros.training.trainer import Trainer

TRAIN_IMAGES = 165_466
"""Size of TissueMNIST's train split."""
LR = 0.0
"""A step costs the same at any learning rate. At 0 the weights don't change, so that no contender, having trained longer,
reaches gradients so small (denormal numbers) that they are slow to multiply."""


def load_train_split(config: BenchmarkConfig) -> tuple[Split, str]:
    """Return a train split and its title: TissueMNIST if available, else synthetic cells repeated to that size."""
    return load_split(config.quick, real=config.data == "auto")


def load_split(quick: bool, real: bool = True) -> tuple[Split, str]:
    """Return a train split and its title: TissueMNIST if `real` and available, else synthetic cells, few of them if `quick`."""
    if real and find_local_file("tissuemnist"):
        dataset = load_dataset("tissuemnist")
        return dataset.train, dataset.provenance.title
    dataset = make_synthetic(n_train=512 if quick else 8192, n_val=8, n_test=8)
    return _repeat_to(dataset, 512 if quick else TRAIN_IMAGES), dataset.provenance.title


def _repeat_to(dataset: Dataset, n: int) -> Split:
    rows = np.arange(n) % len(dataset.train)
    return Split(dataset.train.images[rows], dataset.train.labels[rows])


def gray_input_spec(split: Split) -> InputSpec:
    """Return the input spec of a split of gray images in TissueMNIST's 8 classes."""
    _, height, width = split.images.shape
    return InputSpec(1, height, width, 8)


def trainer_for(recipe: Recipe, split: Split, device: torch.device, replicas: int = 1) -> Trainer:
    """Return a Trainer of the recipe on a gray split, ready for training steps."""
    spec = gray_input_spec(split)
    model = init_model(recipe, split, spec)
    batches = BatchLoader(split, device, channels_last=recipe.channels_last)
    class_names = tuple(str(label) for label in range(spec.n_classes))
    trainer = Trainer(recipe, model, batches, batches, class_names, replicas=replicas)
    trainer.model.train()
    if trainer.step.replicas is not None:
        trainer.step.replicas.begin_epoch(recipe.seed, 0)
    return trainer


def endless_batches(trainer: Trainer) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled and augmented batches endlessly, as `Trainer` makes them: whole epochs, one after another."""
    n, settings = len(trainer.train_batches), trainer.recipe.augment
    for epoch in itertools.count():
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(n, generator=generator)
        draws = sample_augmentations(n, settings, generator).to(trainer.device)
        for rows, images, labels in trainer.train_batches.iter_batches(trainer.recipe.batch_size, order):
            yield apply_augmentations(images, draws[rows], settings), labels


def training_steps(trainer: Trainer, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[float]:
    """Take a training step on each batch, yielding its number of images."""
    for images, labels in batches:
        trainer.step.take(images, labels, LR)
        yield len(labels)


def matrix_products(device: torch.device, dtype: torch.dtype | None) -> Iterator[float]:
    """Multiply matrices endlessly, in each way below in turn; yield the floating-point operations of each product.

    On a GPU: two large square matrices. On a CPU: squares that fit a core's cache, squares that don't, and a convolution,
    whose library (oneDNN) may reach twice the rate of the squares' (MKL): the highest counts as the machine's rate.
    `dtype` None is full precision; on GPUs this allows TF32, as convolutions do by default.
    """
    tensor_kwargs: dict[str, Any] = {"device": device, "dtype": dtype or torch.float32}
    on_gpu = device.type == "cuda"
    squares = [torch.randn(2, side, side, **tensor_kwargs) for side in ((8192,) if on_gpu else (384, 1024))]
    multiplications = [(partial(torch.mm, a, b, out=torch.empty_like(a)), 2.0 * len(a) ** 3) for a, b in squares]
    if not on_gpu:
        maps, filters = torch.randn(8, 256, 28, 28, **tensor_kwargs), torch.randn(256, 256, 3, 3, **tensor_kwargs)
        channels_last = [tensor.to(memory_format=torch.channels_last) for tensor in (maps, filters)]
        multiplications.append((partial(conv2d, *channels_last, padding=1), 2.0 * maps.numel() * filters[0].numel()))
    for multiply, operations in itertools.cycle(multiplications):
        previous_precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if on_gpu else previous_precision)
        multiply()
        torch.set_float32_matmul_precision(previous_precision)
        yield operations
