"""A recipe says everything that a training run needs; one is a YAML file that can be edited and trained.

Each field becomes a flag of ``nephros train`` by its dotted name, such as ``--optimizer.lr 0.1``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from nephros.errors import NephrosError
from nephros.recipe_parts import (
    CLASSICAL_FIELDS,
    AugmentConfig,
    ClassicalConfig,
    LRScheduleConfig,
    ModelConfig,
    OptimizerConfig,
)

MetricName = Literal["val_accuracy", "val_loss", "val_macro_f1", "val_auc"]

TTA_VIEW_COUNTS = (1, 5, 8, 40)
"""What `Recipe.tta_views` can be."""


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run needs besides its data."""

    name: str = "custom"
    """Shown in tables and in the run folder's name."""
    source: str = ""
    """Where its values come from."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network and its shape."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """What turns gradients into steps."""
    schedule: LRScheduleConfig = field(default_factory=LRScheduleConfig)
    """How the learning rate moves over the run."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes of each training image."""
    classical: ClassicalConfig = field(default_factory=ClassicalConfig)
    """What a classical baseline tries; the fields of training above and below are then unused."""
    epochs: int = 10
    """Rounds of training on the train split, each followed by a judgement on validation and a checkpoint."""
    passes_per_epoch: int = 1
    """Times that an epoch goes through the train split; with more, a small split is not judged after every few steps."""
    batch_size: int = 128
    """Images a step."""
    last_batch: Literal["short", "balanced"] = "short"
    """short: an epoch's last batch is what is left, its loss averaged over its own size; balanced: all batches of one size,
    give or take an image, since a last batch of a few images spoils batch normalisation's running statistics."""
    normalize: Literal["symmetric", "zero_one", "dataset"] = "symmetric"
    """symmetric: (x - .5) / .5; zero_one: x in [0, 1]; dataset: by the train split's mean and standard deviation per channel."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes."""
    class_weights: Literal["none", "max-ratio", "balanced"] = "none"
    """Weights of the loss: max-ratio is largest count / count, balanced is n / (classes x count)."""
    distillation_weight: float = 0.0
    """Share of the loss that follows the mean probabilities of other runs (--teachers) and not the labels."""
    tta_views: int = 1
    """What is averaged at test time, at so many times the cost: 1, the image alone; 5, it and its shifts by a pixel to each
    side; 8, its flips and quarter-turns; 40, both. Epochs are judged on the image alone, and the train split."""
    ema_decay: float = 0.0
    """Decay a step of an exponential moving average of the weights, which is then what is judged and saved; 0 is off."""
    early_stopping_patience: int = 0
    """Epochs without a better metric after which the run ends; 0 is off."""
    checkpoint: Literal["last", "best"] = "last"
    """Which epoch's weights are judged and saved at the end; best is by metric on validation."""
    metric: MetricName = "val_accuracy"
    """What best and early_stopping_patience look at."""
    amp: Literal["off", "auto", "native", "bf16", "fp16"] = "off"
    """Mixed precision. auto: on GPUs bf16 where they have it, else fp16 with a loss scaler; off on CPUs. native: as auto, but
    bf16 on CPUs that have instructions for it (avx512_bf16, amx_bf16) and are faster by them."""
    channels_last: bool = True
    """Keep images as height x width x channels in memory, which convolutions here like better."""
    compile: bool = False
    """Compile the network with torch.compile; it pays on GPUs."""
    seed: int = 0
    """Of the first weights, the order of images, augmentation and dropout."""

    def __post_init__(self) -> None:
        for key, default in _unused_fields(self):
            if _get_field(self, key) != default:
                network = self.model.network
                hint = f", or start from the recipe '{network}', not from another's" if self.is_classical else ""
                raise NephrosError(f"{network} has no setting --{key}: leave it out{hint}.")
        for valid, key, expected in _constraints(self):
            if not valid:
                raise NephrosError(f"--{key} is {_get_field(self, key)}, but it must be {expected}.")

    @property
    def is_classical(self) -> bool:
        """Whether it is a classical baseline's, which is learnt at one go, and not a network's."""
        return self.model.network in CLASSICAL_FIELDS

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that its network or baseline has, as plain YAML and JSON values."""
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


def _get_field(recipe: Recipe, key: str) -> Any:
    """Return a field by its dotted name."""
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _unused_fields(recipe: Recipe) -> list[tuple[str, Any]]:
    """Return (dotted name, default) of the fields and groups that mean nothing to the recipe's network or baseline."""
    if not recipe.is_classical:
        return [("classical", ClassicalConfig())]
    common = ("name", "source", "model", "classical", "metric", "seed")
    used_keys = ("model.network", *(f"classical.{name}" for name in CLASSICAL_FIELDS[recipe.model.network]))
    fields = [(field.name, field) for field in dataclasses.fields(Recipe) if field.name not in common]
    fields += [(f"model.{field.name}", field) for field in dataclasses.fields(ModelConfig)]
    fields += [(f"classical.{field.name}", field) for field in dataclasses.fields(ClassicalConfig)]
    return [(key, _default_value(field)) for key, field in fields if key not in used_keys]


def _default_value(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _constraints(recipe: Recipe) -> list[tuple[bool, str, str]]:
    """Return (holds, dotted name, what it must be) for every numeric field."""
    m, o, s, a, c = recipe.model, recipe.optimizer, recipe.schedule, recipe.augment, recipe.classical
    fraction = "at least 0 and below 1"
    return [
        (recipe.epochs >= 1, "epochs", "a whole number of at least 1"),
        (recipe.passes_per_epoch >= 1, "passes_per_epoch", "a whole number of at least 1"),
        (recipe.batch_size >= 1, "batch_size", "a whole number of at least 1"),
        (0 <= recipe.label_smoothing < 1, "label_smoothing", fraction),
        (0 <= recipe.distillation_weight <= 1, "distillation_weight", "from 0 to 1"),
        (recipe.tta_views in TTA_VIEW_COUNTS, "tta_views", "1, 5, 8 or 40"),
        (0 <= recipe.ema_decay < 1, "ema_decay", fraction),
        (recipe.early_stopping_patience >= 0, "early_stopping_patience", "0 (off) or a number of epochs"),
        (0 <= recipe.seed < 2**63, "seed", "a whole number from 0 to 2^63 - 1"),
        (m.base_channels >= 1, "model.base_channels", "a whole number of at least 1"),
        (m.depth >= 1, "model.depth", "a whole number of at least 1"),
        (all(width >= 1 for width in m.hidden), "model.hidden", "a list of whole numbers of at least 1"),
        (0 <= m.dropout < 1, "model.dropout", fraction),
        (0 < o.lr < float("inf"), "optimizer.lr", "a number above 0"),
        (0 < o.aux_lr < float("inf"), "optimizer.aux_lr", "a number above 0"),
        (0 <= o.momentum < 1, "optimizer.momentum", fraction),
        (
            not o.nesterov or (o.name == "sgd" and o.momentum > 0),
            "optimizer.nesterov",
            "off, or sgd with momentum above 0",
        ),
        (0 <= o.weight_decay < float("inf"), "optimizer.weight_decay", "a number of at least 0"),
        (
            all(0 < fraction < 1 for fraction in s.milestones),
            "schedule.milestones",
            "shares of the run between 0 and 1",
        ),
        (s.step_epochs >= 0, "schedule.step_epochs", "0 or a number of epochs"),
        (
            s.name != "step" or bool(s.milestones) != bool(s.step_epochs),
            "schedule.name",
            "used with either --schedule.milestones or --schedule.step_epochs",
        ),
        (0 < s.factor <= 1, "schedule.factor", "above 0 and at most 1"),
        (s.patience >= 0, "schedule.patience", "a number of epochs of at least 0"),
        (0 <= s.warmup < 1, "schedule.warmup", fraction),
        (a.shift >= 0, "augment.shift", "a number of pixels of at least 0"),
        (0 <= a.rotate <= 180, "augment.rotate", "a number of degrees from 0 to 180"),
        (0 <= a.translate < 1, "augment.translate", fraction),
        (0 <= a.scale < 1, "augment.scale", fraction),
        (bool(c.features), "classical.features", "a list of pixels, pca or both"),
        (c.n_components >= 1, "classical.n_components", "a whole number of at least 1"),
        (
            bool(c.n_neighbors) and min(c.n_neighbors) >= 1,
            "classical.n_neighbors",
            "a list of whole numbers of at least 1",
        ),
        (bool(c.distance), "classical.distance", "a list of euclidean, cosine or both"),
        (_all_positive(c.C), "classical.C", "a list of numbers above 0"),
        (_all_positive(c.gamma), "classical.gamma", "a list of numbers above 0"),
        (c.n_landmarks >= 0, "classical.n_landmarks", "0 (an exact kernel) or a number of training images"),
        (c.max_images >= 0, "classical.max_images", "0 (all) or a number of training images"),
    ]


def _all_positive(values: tuple[float, ...]) -> bool:
    return bool(values) and all(0 < value < float("inf") for value in values)


def _to_builtin(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_builtin(item) for key, item in value.items()}
    return [_to_builtin(item) for item in value] if isinstance(value, tuple) else value


def to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML text, fields in the order of the dataclass."""
    import yaml

    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True, width=120)
