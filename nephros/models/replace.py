"""Layers of a network replaced by others, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def replace_layers(network: nn.Module, made: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Put what `made` returns in the place of each layer inside `network`, and look inside those of which it returns None."""
    for name, layer in network.named_children():
        other = made(layer)
        if other is None:
            replace_layers(layer, made)
        else:
            setattr(network, name, other)
    return network
