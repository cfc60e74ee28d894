"""A recipe holds everything that a training run needs besides its data; as a YAML file it can be edited and trained.

Each field is an option of ``nephros train`` under its dotted name, such as ``--optimizer.lr 0.1``; its docstring is the help.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from nephros.errors import InvalidArgument

MetricName = Literal["val_accuracy", "val_loss", "val_macro_f1", "val_auc"]

TTA_VIEW_COUNTS = (1, 5, 8, 40)
"""Allowed values of `Recipe.tta_views`."""

CLASSICAL_FIELDS = {
    "knn": ("classical", "knn"),
    "svm-linear": ("classical", "svm.C"),
    "svm-rbf": ("classical", "svm"),
}
"""The classical baselines, and the groups and fields that each of them uses beside the common ones."""


@dataclass(frozen=True)
class ModelConfig:
    """Network and its size."""

    network: str = "compact"
    """A network: course, poster, nephnet2d, resnet18, resnet50, compact or equivariant, for volumes nephnet3d; or a classical
    baseline: knn, svm-linear or svm-rbf."""
    base_channels: int = 32
    """Channels of the first convolution; later layers have multiples of it. equivariant rounds it up to a multiple of eight."""
    depth: int = 1
    """Convolutions of the course network; residual blocks per stage of compact and equivariant; unused by the others."""
    hidden: tuple[int, ...] = ()
    """Widths of the course network's hidden fully connected layers, such as [100,50]."""
    dropout: float = 0.0
    """Dropout probability before the last layer."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer."""

    name: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    """sgd; adam, with weight decay added to the gradient; adamw, with decoupled weight decay; muon, for inner convolutions, with
    sgd for all other parameters."""
    lr: float = 0.1
    """Peak learning rate; for muon, the norm of a step relative to the norm of the filter bank."""
    momentum: float = 0.0
    """sgd and muon: momentum, at least 0 and below 1; adam and adamw use betas of 0.9 and 0.999."""
    nesterov: bool = False
    """sgd: use Nesterov momentum."""
    weight_decay: float = 0.0
    """Weight decay, on biases and normalization layers too unless decay_norm_and_bias is false."""
    decay_norm_and_bias: bool = True
    """Whether weight decay acts on biases and on the scales and shifts of normalization layers; with muon it never does."""
    aux_lr: float = 0.1
    """muon: peak learning rate of the parameters that sgd updates: the stem of grayscale networks, the last layer, biases and
    normalization layers."""


@dataclass(frozen=True)
class LRScheduleConfig:
    """Learning-rate schedule."""

    name: Literal["constant", "step", "plateau", "cosine", "linear"] = "constant"
    """constant; step: falls at milestones or every step_epochs; plateau: falls when the validation loss no longer does; cosine or
    linear: decays to zero."""
    milestones: tuple[float, ...] = ()
    """step: fractions of the run after which the learning rate is multiplied by factor, such as [0.5,0.75]."""
    step_epochs: int = 0
    """step: number of epochs after which the learning rate is multiplied by factor again; 0 uses milestones instead."""
    factor: float = 0.1
    """step and plateau: factor by which the learning rate is multiplied."""
    patience: int = 10
    """plateau: epochs without a lower validation loss before the learning rate falls."""
    warmup: float = 0.0
    """cosine and linear: fraction of all steps over which the learning rate first rises linearly."""


@dataclass(frozen=True)
class AugmentConfig:
    """Random augmentation of each training image; pixels from outside the image are black."""

    flips: Literal["none", "horizontal", "dihedral", "dihedral-depth"] = "none"
    """horizontal: left-right flips of half the images; dihedral: the eight flips and quarter-turns, all equally often (flips
    only, if images are not square); dihedral-depth, for volumes: these, and the slices of half the volumes in reverse."""
    shift: int = 0
    """Maximum shift along each axis, in whole pixels."""
    rotate: float = 0.0
    """Maximum rotation in either direction, in degrees."""
    translate: float = 0.0
    """Maximum shift along each axis, as a fraction of the side; need not be whole pixels."""
    scale: float = 0.0
    """Maximum relative change of size."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """How rotate, translate and scale sample between pixels."""
    unaugmented_epochs: int = 0
    """Number of last epochs that take images as they are, so that batch normalization ends with the statistics of such."""


@dataclass(frozen=True)
class ClassicalConfig:
    """Classical baselines: every combination of the lists here and in knn or svm is tried, and the best by metric is kept."""

    features: tuple[Literal["pixels", "pca"], ...] = ("pixels",)
    """pixels: their values, from 0 to 1; pca: their principal components."""
    n_components: int = 50
    """Number of principal components for pca."""
    max_images: int = 0
    """Maximum number of training images, drawn in proportion to the classes; 0 uses all."""


@dataclass(frozen=True)
class KNNConfig:
    """k-nearest neighbors: the values that the baseline knn tries."""

    n_neighbors: tuple[int, ...] = (10,)
    """Numbers of nearest training images that vote on the class."""
    distance: tuple[Literal["euclidean", "cosine"], ...] = ("euclidean",)
    """Distances between the features of two images: euclidean, cosine."""


@dataclass(frozen=True)
class SVMConfig:
    """Support vector machines: the values that the baselines svm-linear and svm-rbf try."""

    C: tuple[float, ...] = (1.0,)
    """Values of C, the inverse strength of regularization, such as [0.1,1,10]."""
    gamma: tuple[float, ...] = (1.0,)
    """svm-rbf: values of gamma in the kernel exp(-gamma |x - y|^2), in units of 1 / (number of features x their variance)."""
    n_landmarks: int = 0
    """svm-rbf: number of training images from which Nystroem's method approximates the kernel; 0 computes it exactly."""


@dataclass(frozen=True)
class Recipe:
    """Recipe: everything that a training run needs besides its data."""

    name: str = "custom"
    """Name, in tables and for the run's folder."""
    source: str = ""
    """Where the values come from."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Network and its size."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer."""
    schedule: LRScheduleConfig = field(default_factory=LRScheduleConfig)
    """Learning-rate schedule."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random augmentation of each training image."""
    classical: ClassicalConfig = field(default_factory=ClassicalConfig)
    """Classical baselines: their features and training images; they have no optimizer, schedule, augmentation or epochs."""
    knn: KNNConfig = field(default_factory=KNNConfig)
    """k-nearest neighbors: the values that the baseline knn tries."""
    svm: SVMConfig = field(default_factory=SVMConfig)
    """Support vector machines: the values that the baselines svm-linear and svm-rbf try."""
    epochs: int = 10
    """Number of epochs; each ends with validation and a checkpoint."""
    passes_per_epoch: int = 1
    """Passes over the train split per epoch; more of them make validation rarer on a small split."""
    batch_size: int = 128
    """Images per step."""
    last_batch: Literal["short", "balanced"] = "short"
    """short: the last batch of an epoch holds the remaining images, and its loss is their mean; balanced: all batches have the
    same size to within one image, because a very small last batch spoils the running statistics of batch normalization."""
    normalize: Literal["symmetric", "zero_one", "dataset"] = "symmetric"
    """symmetric: from -1 to 1; zero_one: from 0 to 1; dataset: by the train split's mean and standard deviation per channel."""
    label_smoothing: float = 0.0
    """Fraction of each target that is spread evenly over all classes."""
    class_weights: Literal["none", "max-ratio", "balanced"] = "none"
    """Class weights of the loss; max-ratio: largest count / count; balanced: images / (classes x count)."""
    distillation_weight: float = 0.0
    """Weight of the distillation loss, the cross-entropy against the mean probabilities of other runs (teachers); the loss on
    labels gets the rest."""
    tta_views: int = 1
    """Test-time augmentation: number of views of an image whose probabilities are averaged, each at the cost of a forward pass.
    1: the image alone; 5: the image and its shifts by a pixel in each direction; 8: its eight orientations; 40: both.
    Teachers are asked for as many. Validation during training and scores on the train split use the image alone."""
    ema_decay: float = 0.0
    """Decay per step of an exponential moving average of the weights, which is validated and saved in their place; 0: off."""
    early_stopping_patience: int = 0
    """Number of epochs without a better metric after which training stops; 0: off."""
    checkpoint: Literal["last", "best"] = "last"
    """Epoch whose weights are evaluated and saved at the end; best: the best by metric on validation."""
    metric: MetricName = "val_accuracy"
    """Metric that early stopping and the best checkpoint go by."""
    amp: Literal["off", "auto", "native", "bf16", "fp16"] = "off"
    """Mixed precision. auto: on GPUs bf16 if they have it, else fp16 with loss scaling; off on CPUs. native: as auto, and also
    bf16 on CPUs that have instructions for it (avx512_bf16, amx_bf16) and are faster with them."""
    channels_last: bool = True
    """Keep images in memory as height x width x channels, which makes most convolutions faster."""
    compile: bool = False
    """Compile the network with torch.compile; pays off on GPUs."""
    seed: int = 0
    """Random seed of initial weights, order of images, augmentation and dropout."""

    def __post_init__(self) -> None:
        for key, default in _unused_fields(self):
            if _get_field(self, key) != default:
                key = _changed_field(key, _get_field(self, key), default)
                network = self.model.network
                is_other_recipe = self.is_classical and self.name != network
                hint = f"Start from the recipe '{network}', not from a network's." if is_other_recipe else ""
                raise InvalidArgument(key, _get_field(self, key), f"left out: {network} has no such field", hint=hint)
        for is_valid, key, expected in _constraints(self):
            if not is_valid:
                raise InvalidArgument(key, _get_field(self, key), expected)

    @property
    def is_classical(self) -> bool:
        """Whether the recipe describes a classical baseline, which is fitted in one go, and not a network."""
        return self.model.network in CLASSICAL_FIELDS

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that the network or baseline uses, nested, as plain YAML and JSON values."""
        values: dict[str, Any] = _to_builtin(dataclasses.asdict(self))
        for key, _ in _unused_fields(self):
            *groups, name = key.split(".")
            group_values = values
            for group in groups:
                group_values = group_values[group]
            del group_values[name]
        return values

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the recipe's YAML text."""
        return hashlib.sha256(to_yaml(self).encode()).hexdigest()[:16]


def to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML text, with its fields in the order of the dataclass."""
    import yaml

    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True, width=120)


def _get_field(recipe: Recipe, key: str) -> Any:
    """Return the value of a field by its dotted name."""
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _unused_fields(recipe: Recipe) -> list[tuple[str, Any]]:
    """Return (dotted name, default) of the fields and groups that the recipe's network or baseline doesn't use."""
    if not recipe.is_classical:
        return [("classical", ClassicalConfig()), ("knn", KNNConfig()), ("svm", SVMConfig())]
    used = ("name", "source", "model.network", "metric", "seed", *CLASSICAL_FIELDS[recipe.model.network])
    unused = []
    for outer in dataclasses.fields(Recipe):
        default = _default_value(outer)
        if any(key.startswith(f"{outer.name}.") for key in used):
            unused += [(f"{outer.name}.{inner.name}", _default_value(inner)) for inner in dataclasses.fields(default)]
        else:
            unused.append((outer.name, default))
    return [(key, default) for key, default in unused if key not in used]


def _default_value(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _changed_field(key: str, value: Any, default: Any) -> str:
    """Return the dotted name of the first field of a group that differs from the default; of a plain field, its own name."""
    if not dataclasses.is_dataclass(value):
        return key
    names = (field.name for field in dataclasses.fields(value))
    return next(f"{key}.{name}" for name in names if getattr(value, name) != getattr(default, name))


def _constraints(recipe: Recipe) -> list[tuple[bool, str, str]]:
    """Return (whether it holds, dotted name, what is allowed) for every field with a limited range."""
    return [
        *_training_constraints(recipe),
        *_model_constraints(recipe.model),
        *_optimizer_constraints(recipe.optimizer),
        *_schedule_constraints(recipe.schedule),
        *_augment_constraints(recipe.augment),
        *_classical_constraints(recipe.classical, recipe.knn, recipe.svm),
        *_common_constraints(recipe),
    ]


def _common_constraints(recipe: Recipe) -> list[tuple[bool, str, str]]:
    """Return limits that hold for all whole numbers, which torch stores in 32 bits in places, and for all text."""
    constraints = []
    for outer in dataclasses.fields(Recipe):
        group = getattr(recipe, outer.name)
        inner_names = (
            [f".{inner.name}" for inner in dataclasses.fields(group)] if dataclasses.is_dataclass(group) else [""]
        )
        for key in (f"{outer.name}{name}" for name in inner_names):
            value = _get_field(recipe, key)
            numbers = [item for item in (value if isinstance(value, tuple) else [value]) if isinstance(item, int)]
            if key != "seed":
                constraints.append((max(numbers, default=0) < 2**31, key, "at most 2,147,483,647"))
            if isinstance(value, str):
                constraints.append((not any("\ud800" <= char <= "\udfff" for char in value), key, "Unicode text"))
    return constraints


_COUNT = "a whole number of at least 1"
_FRACTION = "at least 0 and below 1"


def _training_constraints(recipe: Recipe) -> list[tuple[bool, str, str]]:
    return [
        (recipe.epochs >= 1, "epochs", _COUNT),
        (recipe.passes_per_epoch >= 1, "passes_per_epoch", _COUNT),
        (recipe.batch_size >= 1, "batch_size", _COUNT),
        (0 <= recipe.label_smoothing < 1, "label_smoothing", _FRACTION),
        (0 <= recipe.distillation_weight <= 1, "distillation_weight", "from 0 to 1"),
        (recipe.tta_views in TTA_VIEW_COUNTS, "tta_views", "1, 5, 8 or 40"),
        (0 <= recipe.ema_decay < 1, "ema_decay", _FRACTION),
        (recipe.early_stopping_patience >= 0, "early_stopping_patience", "0 (off) or a number of epochs"),
        (0 <= recipe.seed < 2**63, "seed", "a whole number from 0 to 2^63 - 1"),
    ]


def _model_constraints(model: ModelConfig) -> list[tuple[bool, str, str]]:
    return [
        (model.base_channels >= 1, "model.base_channels", _COUNT),
        (1 <= model.depth <= 1000, "model.depth", "a whole number from 1 to 1,000"),
        (len(model.hidden) <= 100, "model.hidden", "a list of at most 100 widths"),
        (all(width >= 1 for width in model.hidden), "model.hidden", "a list of whole numbers of at least 1"),
        (0 <= model.dropout < 1, "model.dropout", _FRACTION),
    ]


def _optimizer_constraints(optimizer: OptimizerConfig) -> list[tuple[bool, str, str]]:
    has_momentum = optimizer.name == "sgd" and optimizer.momentum > 0
    return [
        (0 < optimizer.lr < float("inf"), "optimizer.lr", "a number above 0"),
        (0 < optimizer.aux_lr < float("inf"), "optimizer.aux_lr", "a number above 0"),
        (0 <= optimizer.momentum < 1, "optimizer.momentum", _FRACTION),
        (not optimizer.nesterov or has_momentum, "optimizer.nesterov", "off, or used with sgd and momentum above 0"),
        (0 <= optimizer.weight_decay < float("inf"), "optimizer.weight_decay", "a number of at least 0"),
    ]


def _schedule_constraints(schedule: LRScheduleConfig) -> list[tuple[bool, str, str]]:
    has_one_rule = bool(schedule.milestones) != bool(schedule.step_epochs)
    return [
        (
            all(0 < fraction < 1 for fraction in schedule.milestones),
            "schedule.milestones",
            "a list of fractions of the run between 0 and 1",
        ),
        (schedule.step_epochs >= 0, "schedule.step_epochs", "0 or a number of epochs"),
        (
            schedule.name != "step" or has_one_rule,
            "schedule.name",
            "used with either `schedule.milestones` or `schedule.step_epochs`",
        ),
        (0 < schedule.factor <= 1, "schedule.factor", "above 0 and at most 1"),
        (schedule.patience >= 0, "schedule.patience", "a number of epochs of at least 0"),
        (0 <= schedule.warmup < 1, "schedule.warmup", _FRACTION),
    ]


def _augment_constraints(augment: AugmentConfig) -> list[tuple[bool, str, str]]:
    return [
        (augment.shift >= 0, "augment.shift", "a number of pixels of at least 0"),
        (0 <= augment.rotate <= 180, "augment.rotate", "a number of degrees from 0 to 180"),
        (0 <= augment.translate < 1, "augment.translate", _FRACTION),
        (0 <= augment.scale < 1, "augment.scale", _FRACTION),
        (augment.unaugmented_epochs >= 0, "augment.unaugmented_epochs", "a number of epochs of at least 0"),
    ]


def _classical_constraints(classical: ClassicalConfig, knn: KNNConfig, svm: SVMConfig) -> list[tuple[bool, str, str]]:
    has_neighbors = bool(knn.n_neighbors) and min(knn.n_neighbors) >= 1
    return [
        (bool(classical.features), "classical.features", "a list of pixels, pca or both"),
        (classical.n_components >= 1, "classical.n_components", _COUNT),
        (classical.max_images >= 0, "classical.max_images", "0 (all) or a number of training images"),
        (has_neighbors, "knn.n_neighbors", "a list of whole numbers of at least 1"),
        (bool(knn.distance), "knn.distance", "a list of euclidean, cosine or both"),
        (_all_positive(svm.C), "svm.C", "a list of numbers above 0"),
        (_all_positive(svm.gamma), "svm.gamma", "a list of numbers above 0"),
        (svm.n_landmarks >= 0, "svm.n_landmarks", "0 (an exact kernel) or a number of training images"),
    ]


def _all_positive(values: tuple[float, ...]) -> bool:
    return bool(values) and all(0 < value < float("inf") for value in values)


def _to_builtin(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_builtin(item) for key, item in value.items()}
    return [_to_builtin(item) for item in value] if isinstance(value, tuple) else value
