"""Filters that are stored once and applied in eight orientations: the ordinary filters of stored ones, and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nephros.device import is_launch_bound

N_ORIENTATIONS = 8
FilterShape = tuple[int, int, int, int, int]
"""Output fields, input fields, orientations per input field, and the kernel's two sides."""


def expand_filters(weight: Tensor, filter_shape: FilterShape, index: Tensor) -> Tensor:
    """Return ordinary filters (out_fields * 8, in_channels, k, k) of the stored ones (out_fields, in_channels, k, k)."""
    out_fields, in_fields, in_orientations, kernel, _ = filter_shape
    flat = weight.reshape(out_fields, in_fields, in_orientations * kernel * kernel)
    flat = take_taps(flat, index) if flat.is_cuda else flat[:, :, index]
    transformed = flat.view(out_fields, in_fields, N_ORIENTATIONS, in_orientations, kernel, kernel).transpose(1, 2)
    return transformed.reshape(out_fields * N_ORIENTATIONS, in_fields * in_orientations, kernel, kernel)


class _TakeTaps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, flat: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return flat[:, :, index]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        taps = torch.arange(index.shape[1], device=index.device).expand_as(index)
        places = torch.empty_like(index).scatter_(1, index, taps)
        return gradients[0].gather(3, places.expand_as(gradients[0])).sum(2), None


def take_taps(flat: Tensor, index: Tensor) -> Tensor:
    """Return flat[:, :, index] of stored taps (out_fields, in_fields, t) and an index (8, t), each of whose rows orders all taps.

    A tap's gradient is the sum over the rows of where it went. Autograd's own way for an index, which may repeat and leave out
    elements, sorts the index in every step on GPUs.
    """
    taps: Tensor = _TakeTaps.apply(flat, index)  # type: ignore[no-untyped-call]
    return taps


def channels_last_filters(weight: Tensor, filter_shape: FilterShape, index: Tensor) -> Tensor:
    """Return `expand_filters` in channels_last, by one gather in place of an index and two copies.

    On a CPU, gradients are added in the order in which indexing adds them, so that all bits are the same; on a GPU they take two
    kernels.
    """
    _, in_fields, in_orientations, kernel, _ = filter_shape
    if (
        kernel == 1 or in_fields * in_orientations == 1
    ):  # several layouts are channels_last: take the one that torch chooses
        return expand_filters(weight, filter_shape, index).to(memory_format=torch.channels_last)
    filters: Tensor = _Expansion.apply(weight, filter_shape, *_positions(filter_shape[1:], index))  # type: ignore[no-untyped-call]
    return filters


class _Expansion(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, filter_shape: FilterShape, sources: Tensor, targets: Tensor) -> Tensor:
        out_fields, in_fields, in_orientations, kernel, _ = filter_shape
        ctx.targets, ctx.weight_shape = targets, weight.shape
        expanded = weight.reshape(out_fields, -1).gather(1, sources.expand(out_fields, -1))
        return expanded.view(-1, kernel, kernel, in_fields * in_orientations).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        out_fields = ctx.weight_shape[0]
        rows = gradients[0].permute(0, 2, 3, 1).reshape(out_fields, -1)
        by_orientation = rows.gather(1, ctx.targets.expand(out_fields, -1)).view(out_fields, N_ORIENTATIONS, -1)
        if is_launch_bound(by_orientation):
            return by_orientation.sum(1).view(ctx.weight_shape), None, None, None
        total = by_orientation[:, 0] + 0.0  # indexing adds to zeros, which makes zeros of negative ones
        for g in range(1, N_ORIENTATIONS):
            total += by_orientation[:, g]
        return total.view(ctx.weight_shape), None, None, None


_cached_positions: dict[tuple[tuple[int, ...], torch.device], tuple[Tensor, Tensor]] = {}


def _positions(field_shape: tuple[int, ...], index: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for the filters of an output field, which stored number each of theirs is, and where the eight of each stored are.

    In memory these filters are (orientation, k, k, channel). Layers and replicas of the same shape, which determines `index`,
    share both, int64 of 8 * input fields * taps.
    """
    key = (field_shape, index.device)
    if key not in _cached_positions:
        in_fields, in_orientations, kernel, _ = field_shape
        n_taps = in_orientations * kernel * kernel
        stored = torch.arange(in_fields * n_taps, device=index.device).view(in_fields, n_taps)
        transformed = stored[:, index].view(in_fields, N_ORIENTATIONS, in_orientations, kernel, kernel)
        sources = transformed.permute(1, 3, 4, 0, 2).reshape(N_ORIENTATIONS, -1)
        offsets = torch.arange(N_ORIENTATIONS, device=index.device)[:, None] * sources.shape[1]
        _cached_positions[key] = sources.flatten(), (sources.argsort(1) + offsets).flatten()
    return _cached_positions[key]
