"""NephNet3D, the network for volumes of a nucleus and its surroundings, from which NephNet2D and the poster's network descend."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from nephros.errors import IncompatibleError
from nephros.models.classifier import InputSpec
from nephros.recipe import ModelConfig

_N_POOLS = 3


class ChannelAxis(nn.Module):
    """Makes one channel of a volume: (n, d, h, w) becomes (n, 1, d, h, w)."""

    def forward(self, x_ndhw: Tensor) -> Tensor:
        """Return (n, 1, d, h, w)."""
        return x_ndhw.unsqueeze(1)


class NephNet3D(nn.Module):
    """Three blocks of two [conv 3x3x3, BatchNorm, LeakyReLU] and 2x2x2 maximum pooling, a conv 1x3x3, and three dense layers.

    2,238,504 parameters with 32 base channels, volumes of 7x32x32 and 8 classes. Where one slice is left, pooling halves the
    plane only. Weights begin with Kaiming's normal distribution and biases with the standard normal one, as in its repository.
    Source: awoloshuk/NephNet, `NephNet3D` in model/model.py; Woloshuk et al., Cytometry Part A 99(7), 2021.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec) -> None:
        super().__init__()
        assert spec.depth is not None
        n = config.base_channels
        layers: list[nn.Module] = [ChannelAxis()]
        depth, channels = spec.depth, 1
        height, width = spec.pooled_size(_N_POOLS)
        for block in range(_N_POOLS):
            out_channels = n * 2**block
            layers += _convolution(channels, out_channels) + _convolution(out_channels, out_channels)
            layers.append(nn.MaxPool3d((min(depth, 2), 2, 2)))
            depth, channels = max(depth // 2, 1), out_channels
        layers += _convolution(channels, 8 * n, in_plane=True)
        self.features = nn.Sequential(*layers)
        dense: list[nn.Module] = []
        widths = (8 * n * depth * height * width, 8 * n, 4 * n)
        for inputs, outputs in pairwise(widths):
            dense += [nn.Linear(inputs, outputs), nn.LeakyReLU(), nn.BatchNorm1d(outputs), nn.Dropout(config.dropout)]
        self.head = nn.Sequential(*dense, nn.Linear(widths[-1], spec.n_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                assert module.bias is not None
                nn.init.normal_(module.bias)

    def forward(self, x_ndhw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, d, h, w) normalized volumes."""
        logits: Tensor = self.head(self.features(x_ndhw).flatten(1))
        return logits


def _convolution(inputs: int, outputs: int, *, in_plane: bool = False) -> list[nn.Module]:
    depth = 1 if in_plane else 3
    convolution = nn.Conv3d(inputs, outputs, (depth, 3, 3), padding=(depth // 2, 1, 1))
    return [convolution, nn.BatchNorm3d(outputs), nn.LeakyReLU()]


def check_input(config: ModelConfig, spec: InputSpec) -> None:
    """Raise IncompatibleError where a network of images is to take volumes, or the other way round."""
    takes_volumes = config.network in VOLUME_NETWORKS
    if takes_volumes and spec.depth is None:
        raise IncompatibleError(
            f"The network {config.network} takes volumes, and the data are images: prepare them with `volumes`, or train a "
            "recipe for images."
        )
    if not takes_volumes and spec.depth is not None:
        raise IncompatibleError(
            f"The data are volumes of {spec.depth} slices, and the network {config.network} takes images: train the recipe "
            "nephnet3d, or save the maximum over the slices of each as an image."
        )


VOLUME_NETWORKS = {"nephnet3d": NephNet3D}
"""The networks that take volumes, by name."""
