"""A network together with the normalization of its inputs, so that weights and preprocessing stay together, fresh or trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.errors import IncompatibleError, InvalidArgument
from nephros.models.stages import class_scores, feature_maps, last_linear
from nephros.recipe import ModelConfig

_Module = TypeVar("_Module", bound=nn.Module)

NO_EPS = 1e-30
"""Too small to change a variance in float32 or float64; several versions of torch refuse 0."""


@dataclass(frozen=True)
class InputSpec:
    """Channels (1 or 3), height and width in pixels, and number of classes of the data; of volumes also the slices."""

    channels: int
    height: int
    width: int
    n_classes: int
    depth: int | None = None
    """Slices of a volume; None for images."""

    @property
    def planes(self) -> int:
        """Planes p of a batch (n, p, h, w): the channels of images, the slices of volumes."""
        return self.channels if self.depth is None else self.depth

    @property
    def square_side(self) -> int | None:
        """Pixels per side of square images; None for others, and for volumes."""
        return self.height if self.height == self.width and self.depth is None else None

    def to_dict(self) -> dict[str, int]:
        """Return the fields as plain JSON values; those of images have no ``depth``."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def pooled_size(self, n_pools: int) -> tuple[int, int]:
        """Return height and width after `n_pools` halvings; IncompatibleError when nothing would be left."""
        height, width = self.height >> n_pools, self.width >> n_pools
        if min(height, width) < 1:
            raise IncompatibleError(
                f"Images of {self.height}x{self.width} pixels are too small for a network that halves them {n_pools} times: use "
                f"another recipe, or images of at least {2**n_pools}x{2**n_pools} pixels."
            )
        return height, width


def to_channels_last(module: _Module) -> _Module:
    """Put a module's filters into torch's channels-last memory format, which has none for those of volumes; return the module."""
    if any(parameter.ndim == 5 for parameter in module.parameters()):
        return module
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Classifier(nn.Module):
    """Maps images as stored to class scores.

    `forward` takes (n, c, h, w) images, or volumes (n, d, h, w), uint8 or float, in 0..255, and returns (n, classes) float
    logits. The mean and standard deviation of each channel or slice (of pixels divided by 255) are buffers, saved and loaded with
    the weights.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def normalize(self, images_nchw: Tensor) -> Tensor:
        """Return (n, c, h, w) float images: (pixel / 255 - mean) / std per channel."""
        # batch_norm with fixed statistics does this in one pass over memory.
        return F.batch_norm(images_nchw.to(self.mean.dtype), 255 * self.mean, (255 * self.std).square(), eps=NO_EPS)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) images in 0..255."""
        logits: Tensor = self.network(self.normalize(images_nchw))
        return logits

    @property
    def num_classes(self) -> int:
        """Number of classes, that is, outputs of the last layer."""
        return self._last_layer.out_features

    @property
    def num_features(self) -> int:
        """Number of features d that the last layer sees."""
        return self._last_layer.in_features

    @property
    def _last_layer(self) -> nn.Linear:
        return cast(nn.Linear, self.network.get_submodule(last_linear(self.network)))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by one of `num_classes` outputs with random weights; InvalidArgument for fewer than 1."""
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise InvalidArgument("num_classes", num_classes, "a whole number of at least 1")
        old = self._last_layer
        layer = nn.Linear(old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype)
        self.network.set_submodule(last_linear(self.network), layer)

    def forward_features(self, images_nchw: Tensor) -> Tensor:
        """Return the last feature maps, (n, d', h', w'), of (n, c, h, w) images in 0..255; of volumes, (n, d', z', h', w').

        `forward_head` maps them to logits. In an equivariant network, eight successive maps are one field in its orientations.
        """
        return feature_maps(self.network, self.normalize(images_nchw))

    def forward_head(self, maps: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Return (n, classes) logits of what `forward_features` returned; with `pre_logits`, the last layer's (n, d) input."""
        if not pre_logits:
            return class_scores(self.network, maps)
        inputs: list[Tensor] = []
        hook = self._last_layer.register_forward_pre_hook(lambda _layer, args: inputs.append(args[0]))
        try:
            class_scores(self.network, maps)
        finally:
            hook.remove()
        return inputs[0]


class DataOrigin(NamedTuple):
    """Which data a model was trained on, as `nephros.data.provenance.Provenance` has it."""

    key: str | None
    """Of MedMNIST's sets; None for any other data."""
    split: str
    sha256: str | None


@dataclass(frozen=True)
class PretrainedModel:
    """Weights to start from, with what they were trained as; `nephros.exporters.pretrained` opens them."""

    classifier: Classifier
    """On the CPU and in evaluation mode."""
    model: ModelConfig
    input_spec: InputSpec
    """Channels, size and classes that the network was built for."""
    class_names: tuple[str, ...]
    source: str
    """Name of the bundled model, or the absolute path of the run folder or file."""
    recipe: str
    """Name of the recipe that trained it; empty for a bare weights file."""
    sha256: str
    """Digest of the file that holds the weights."""
    is_folded: bool
    """Whether batch normalization is folded into its filters, so that its statistics must be measured anew."""
    data: DataOrigin | None = None
    """The data that it was trained on; None for a bare weights file."""
