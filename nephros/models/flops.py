"""Cost of a network: its parameters, and the multiply-adds of a forward pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nephros.device import torch_threads
from nephros.models.classical import ClassicalModel
from nephros.models.classifier import InputSpec


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters; for a classical baseline, of all numbers that it stores."""
    if isinstance(network, ClassicalModel):
        return sum(buffer.numel() for buffer in network.buffers())
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_multiply_adds(network: nn.Module, spec: InputSpec) -> int:
    """Return the multiply-adds of convolutions and fully connected layers for one image, without the biases."""
    if isinstance(network, ClassicalModel):
        return network.count_multiply_adds()
    total = 0

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            fan_in = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
            total += output[0].numel() * fan_in
        elif isinstance(layer, nn.Linear):
            total += layer.in_features * layer.out_features

    counted = nn.Conv2d | nn.Conv3d | nn.Linear
    hooks = [layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, counted)]
    training = network.training
    try:
        with torch.no_grad(), torch_threads(1):  # a single image keeps more threads waiting for each other
            network.eval()(torch.zeros(1, spec.planes, spec.height, spec.width))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return total
