"""The parts of a recipe: network, optimiser, schedule, augmentation, and what a classical baseline tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CLASSICAL_FIELDS = {
    "knn": ("features", "n_components", "n_neighbors", "distance", "max_images"),
    "svm-linear": ("features", "n_components", "C", "max_images"),
    "svm-rbf": ("features", "n_components", "C", "gamma", "n_landmarks", "max_images"),
}
"""The classical baselines, and the fields of `ClassicalConfig` that each of them has."""


@dataclass(frozen=True)
class ModelConfig:
    """The network and its shape."""

    network: str = "compact"
    """A network (course, poster, nephnet2d, resnet18, resnet50, compact, equivariant) or a classical baseline (knn, svm-linear,
    svm-rbf)."""
    base_channels: int = 32
    """Channels of the first convolution; the later ones are multiples of it. Of equivariant in eights."""
    depth: int = 1
    """Convolutions of the course network; residual blocks a stage of compact and equivariant; unused by the others."""
    hidden: tuple[int, ...] = ()
    """Widths of the course network's hidden fully connected layers."""
    dropout: float = 0.0
    """Probability that a unit before the last layer is dropped."""


@dataclass(frozen=True)
class OptimizerConfig:
    """What turns gradients into steps."""

    name: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    """sgd, adam (weight decay added to the gradient), adamw (decoupled) or muon (of inner convolutions; sgd for all else)."""
    lr: float = 0.1
    """Peak learning rate, per step; of muon, a step's share of a filter bank's norm."""
    momentum: float = 0.0
    """Of sgd and muon, 0 to below 1; adam and adamw use betas .9 and .999."""
    nesterov: bool = False
    """Whether sgd looks ahead along its momentum."""
    weight_decay: float = 0.0
    """L2 penalty's factor; biases and normalization layers are decayed too unless decay_norm_and_bias is off."""
    decay_norm_and_bias: bool = True
    """Whether weight decay also acts on biases and on the scales and shifts of normalisation layers; of muon it never does."""
    aux_lr: float = 0.1
    """muon: peak learning rate of what sgd steps: the stem on grey images, the last layer, biases and normalisation layers."""


@dataclass(frozen=True)
class LRScheduleConfig:
    """How the learning rate moves over the run."""

    name: Literal["constant", "step", "plateau", "cosine", "linear"] = "constant"
    """constant; step at milestones or every step_epochs; plateau on validation loss; cosine or linear to zero."""
    milestones: tuple[float, ...] = ()
    """step: shares of all epochs after which the rate is multiplied by factor, such as [0.5, 0.75]."""
    step_epochs: int = 0
    """step: multiply by factor every so many epochs; 0 leaves it to milestones."""
    factor: float = 0.1
    """step and plateau: what the rate is multiplied by."""
    patience: int = 10
    """plateau: epochs without a lower validation loss before the rate falls."""
    warmup: float = 0.0
    """cosine and linear: share of all steps over which the rate first rises linearly."""


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of each training image; black fills what comes in from outside."""

    flips: Literal["none", "horizontal", "dihedral"] = "none"
    """dihedral: one of the eight flips and quarter-turns, each as likely (no quarter-turns unless the image is square)."""
    shift: int = 0
    """Whole pixels up to which an image moves along each axis."""
    rotate: float = 0.0
    """Degrees up to which an image turns either way."""
    translate: float = 0.0
    """Share of the side up to which an image moves along each axis, in fractions of a pixel."""
    scale: float = 0.0
    """Share by which an image grows or shrinks, at most."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """How rotate, translate and scale read between pixels."""


@dataclass(frozen=True)
class ClassicalConfig:
    """What a classical baseline tries: every combination of the lists; the best on validation, by --metric, is kept."""

    features: tuple[Literal["pixels", "pca"], ...] = ("pixels",)
    """pixels: of 1; pca: their principal components."""
    n_components: int = 50
    """Principal components of pca."""
    n_neighbors: tuple[int, ...] = (10,)
    """knn: how many nearest training images vote."""
    distance: tuple[Literal["euclidean", "cosine"], ...] = ("euclidean",)
    """knn: between the features of two images."""
    C: tuple[float, ...] = (1.0,)
    """SVMs: C, the weight of a training image on the wrong side of its margin."""
    gamma: tuple[float, ...] = (1.0,)
    """svm-rbf: the kernel's exp(-gamma |x - y|^2), in units of 1 / (features x their variance)."""
    n_landmarks: int = 0
    """svm-rbf: training images by which Nystroem's method approximates the kernel; 0 keeps the kernel exact."""
    max_images: int = 0
    """Training images to learn from at most, every class's share kept; 0 takes all."""
