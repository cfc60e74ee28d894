"""Features of a pretrained network: what its last layer sees."""

from __future__ import annotations

import copy
import math
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nephros.data.batches import BatchLoader
from nephros.data.split import Split
from nephros.evaluation.scoring import PIXELS_PER_BATCH, prediction_pool
from nephros.models.classifier import Classifier
from nephros.models.stages import last_linear
from nephros.models.tta import make_tta_views


def extract_features(
    classifier: Classifier, images: NDArray[np.uint8], tta_views: int, device: torch.device
) -> NDArray[np.float32]:
    """Return the (n, views, d) inputs of the last layer for (n, h, w) or (n, h, w, c) images, for each test-time view."""
    batches = BatchLoader(Split(images, np.zeros(len(images), dtype=np.int64)), device)
    views = make_tta_views(tta_views)
    in_thread = threading.local()
    model = classifier.to(device).eval()
    layer = model.network.get_submodule(last_linear(model.network))
    hook = layer.register_forward_pre_hook(lambda _layer, args: in_thread.inputs.append(args[0].cpu()))
    batch_size = max(1, PIXELS_PER_BATCH // batches.pixels_per_image)
    by_batch: dict[int, Tensor] = {}

    @torch.no_grad()
    def extract(batch: tuple[slice, Tensor, Tensor]) -> None:
        rows, cells, _ = batch
        in_thread.inputs = []
        for view in views:
            model(view.apply(cells))
        by_batch[rows.start] = torch.stack(in_thread.inputs, dim=1)

    try:
        pool = prediction_pool(model, device, math.ceil(len(batches) / batch_size))
        pool.for_each(extract, batches.iter_batches(batch_size))
    finally:
        hook.remove()
    features: NDArray[np.float32] = torch.cat([by_batch[start] for start in sorted(by_batch)]).numpy()
    return features


def with_head(classifier: Classifier, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> Classifier:
    """Return a copy of a classifier whose last layer has the given (classes, d) weights and (classes,) biases."""
    copied = copy.deepcopy(classifier)
    name = last_linear(copied.network)
    old = copied.network.get_submodule(name)
    head = nn.Linear(weight.shape[1], weight.shape[0], device=next(old.parameters()).device)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        assert head.bias is not None
        head.bias.copy_(torch.from_numpy(bias))
    copied.network.set_submodule(name, head)
    return copied.eval()


def with_channels(classifier: Classifier, channels: int) -> Classifier:
    """Return a copy of a grayscale classifier for images of `channels` channels, which gray ones give the same scores.

    The first layer's filters are repeated for each channel and divided by their number, as I3D inflates filters over time
    (Carreira and Zisserman, CVPR 2017).
    """
    from nephros.models.dihedral import D4Conv

    copied = copy.deepcopy(classifier)
    first = next(module for module in copied.network.modules() if isinstance(module, nn.Conv2d))
    weight = first.weight.detach().repeat(1, channels, 1, 1) / channels
    if isinstance(first, D4Conv):
        out_fields, _, orientations, kernel, _ = first.filter_shape
        first.filter_shape = (out_fields, channels, orientations, kernel, kernel)
    first.in_channels = channels
    first.weight = nn.Parameter(weight)
    copied.mean, copied.std = copied.mean.repeat(channels), copied.std.repeat(channels)
    return copied.eval()
