"""A recipe says everything that a training run needs; one is a YAML file that can be edited and trained.

Each field becomes a flag of ``nephros train`` by its dotted name, such as ``--optimizer.lr 0.1``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from nephros.errors import UserError
from nephros.recipe_parts import CLASSIC_FIELDS, Augment, Classic, Model, Optimizer, Schedule

MetricName = Literal["val_accuracy", "val_loss", "val_macro_f1", "val_auc"]

VIEWS = (1, 5, 8, 40)
"""What `Recipe.views` can be."""


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run needs besides its data."""

    name: str = "custom"
    """Shown in tables and in the run folder's name."""
    source: str = ""
    """Where its values come from."""
    model: Model = field(default_factory=Model)
    """The network and its shape."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """What turns gradients into steps."""
    schedule: Schedule = field(default_factory=Schedule)
    """How the learning rate moves over the run."""
    augment: Augment = field(default_factory=Augment)
    """Random changes of each training image."""
    classic: Classic = field(default_factory=Classic)
    """What a classical baseline tries; the fields of training above and below are then unused."""
    epochs: int = 10
    """Rounds of training on the train split, each followed by a judgement on validation and a checkpoint."""
    passes: int = 1
    """Times that an epoch goes through the train split; with more, a small split is not judged after every few steps."""
    batch_size: int = 128
    """Images a step."""
    last_batch: Literal["keep", "even"] = "keep"
    """keep: an epoch's last batch is what is left, its loss averaged over its own size; even: all batches of one size,
    give or take an image, since a last batch of a few images spoils batch normalisation's running statistics."""
    normalise: Literal["half", "unit", "data"] = "half"
    """half: (x - .5) / .5; unit: x in [0, 1]; data: by the train split's own mean and standard deviation, a channel."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes."""
    class_weights: Literal["none", "max-ratio", "balanced"] = "none"
    """Weights of the loss: max-ratio is largest count / count, balanced is n / (classes x count)."""
    teacher_share: float = 0.0
    """Share of the loss that follows the mean probabilities of other runs (--teachers) and not the labels."""
    views: int = 1
    """What is averaged at test time, at so many times the cost: 1, the image alone; 5, it and its shifts by a pixel to each
    side; 8, its flips and quarter-turns; 40, both. Epochs are judged on the image alone, and the train split."""
    ema: float = 0.0
    """Decay a step of an exponential moving average of the weights, which is then what is judged and saved; 0 is off."""
    early_stop: int = 0
    """Epochs without a better metric after which the run ends; 0 is off."""
    checkpoint: Literal["last", "best"] = "last"
    """Which epoch's weights are judged and saved at the end; best is by metric on validation."""
    metric: MetricName = "val_accuracy"
    """What best and early_stop look at."""
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
        for key, default in _unused(self):
            if _value(self, key) != default:
                kind = self.model.network
                start = f", or start from the recipe '{kind}', not from another's" if self.classical else ""
                raise UserError(f"{kind} has no setting --{key}: leave it out{start}.")
        for ok, key, need in _limits(self):
            if not ok:
                raise UserError(f"--{key} is {_value(self, key)}, but it must be {need}.")

    @property
    def classical(self) -> bool:
        """Whether it is a classical baseline's, which is learnt at one go, and not a network's."""
        return self.model.network in CLASSIC_FIELDS

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that its network or baseline has, as plain YAML and JSON values."""
        values: dict[str, Any] = _plain(dataclasses.asdict(self))
        for key, _ in _unused(self):
            *groups, name = key.split(".")
            place = values
            for group in groups:
                place = place[group]
            del place[name]
        return values

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the recipe's YAML text."""
        return hashlib.sha256(to_yaml(self).encode()).hexdigest()[:16]


def _value(recipe: Recipe, key: str) -> Any:
    """Return a field by its dotted name."""
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _unused(recipe: Recipe) -> list[tuple[str, Any]]:
    """Return (dotted name, default) of the fields and groups that mean nothing to the recipe's network or baseline."""
    if not recipe.classical:
        return [("classic", Classic())]
    shared = ("name", "source", "model", "classic", "metric", "seed")
    has = ("model.network", *(f"classic.{name}" for name in CLASSIC_FIELDS[recipe.model.network]))
    fields = [(field.name, field) for field in dataclasses.fields(Recipe) if field.name not in shared]
    fields += [(f"model.{field.name}", field) for field in dataclasses.fields(Model)]
    fields += [(f"classic.{field.name}", field) for field in dataclasses.fields(Classic)]
    return [(key, _default(field)) for key, field in fields if key not in has]


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _limits(recipe: Recipe) -> list[tuple[bool, str, str]]:
    """Return (holds, dotted name, what it must be) for every numeric field."""
    m, o, s, a, c = recipe.model, recipe.optimizer, recipe.schedule, recipe.augment, recipe.classic
    share = "at least 0 and below 1"
    return [
        (recipe.epochs >= 1, "epochs", "a whole number of at least 1"),
        (recipe.passes >= 1, "passes", "a whole number of at least 1"),
        (recipe.batch_size >= 1, "batch_size", "a whole number of at least 1"),
        (0 <= recipe.label_smoothing < 1, "label_smoothing", share),
        (0 <= recipe.teacher_share <= 1, "teacher_share", "from 0 to 1"),
        (recipe.views in VIEWS, "views", "1, 5, 8 or 40"),
        (0 <= recipe.ema < 1, "ema", share),
        (recipe.early_stop >= 0, "early_stop", "0 (off) or a number of epochs"),
        (0 <= recipe.seed < 2**63, "seed", "a whole number from 0 to 2^63 - 1"),
        (m.features >= 1, "model.features", "a whole number of at least 1"),
        (m.depth >= 1, "model.depth", "a whole number of at least 1"),
        (all(width >= 1 for width in m.hidden), "model.hidden", "a list of whole numbers of at least 1"),
        (0 <= m.dropout < 1, "model.dropout", share),
        (0 < o.lr < float("inf"), "optimizer.lr", "a number above 0"),
        (0 < o.rest_lr < float("inf"), "optimizer.rest_lr", "a number above 0"),
        (0 <= o.momentum < 1, "optimizer.momentum", share),
        (
            not o.nesterov or (o.name == "sgd" and o.momentum > 0),
            "optimizer.nesterov",
            "off, or sgd with momentum above 0",
        ),
        (0 <= o.weight_decay < float("inf"), "optimizer.weight_decay", "a number of at least 0"),
        (all(0 < share < 1 for share in s.milestones), "schedule.milestones", "shares of the run between 0 and 1"),
        (s.step_epochs >= 0, "schedule.step_epochs", "0 or a number of epochs"),
        (
            s.name != "step" or bool(s.milestones) != bool(s.step_epochs),
            "schedule.name",
            "used with either --schedule.milestones or --schedule.step_epochs",
        ),
        (0 < s.factor <= 1, "schedule.factor", "above 0 and at most 1"),
        (s.patience >= 0, "schedule.patience", "a number of epochs of at least 0"),
        (0 <= s.warmup < 1, "schedule.warmup", share),
        (a.shift >= 0, "augment.shift", "a number of pixels of at least 0"),
        (0 <= a.rotate <= 180, "augment.rotate", "a number of degrees from 0 to 180"),
        (0 <= a.translate < 1, "augment.translate", share),
        (0 <= a.scale < 1, "augment.scale", share),
        (bool(c.features), "classic.features", "a list of pixels, pca or both"),
        (c.components >= 1, "classic.components", "a whole number of at least 1"),
        (bool(c.neighbours) and min(c.neighbours) >= 1, "classic.neighbours", "a list of whole numbers of at least 1"),
        (bool(c.distance), "classic.distance", "a list of euclidean, cosine or both"),
        (_positive(c.cost), "classic.cost", "a list of numbers above 0"),
        (_positive(c.gamma), "classic.gamma", "a list of numbers above 0"),
        (c.landmarks >= 0, "classic.landmarks", "0 (an exact kernel) or a number of training images"),
        (c.images >= 0, "classic.images", "0 (all) or a number of training images"),
    ]


def _positive(values: tuple[float, ...]) -> bool:
    return bool(values) and all(0 < value < float("inf") for value in values)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML text, fields in the order of the dataclass."""
    import yaml

    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True, width=120)
