"""A trained network with its preprocessing and calibration as one torch module: stored pixels in, predictions out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.errors import IncompatibleError, InvalidArgument
from nephros.inference.ood.detector import whitening_matrix
from nephros.models.classifier import Classifier
from nephros.models.dihedral import GlobalOrientationPool, OrientationPool, fold_batch_norm
from nephros.models.tta import TTAView, ensemble_logits, make_tta_views
from nephros.recipe import TTA_VIEW_COUNTS

DISTANCE_BUFFERS = ("feature_mean", "whitening", "class_means")
"""Buffers that `fit_feature_distance` fits."""


class InferenceModule(nn.Module):
    """(n, c, h, w) uint8 cells -> probabilities, features and, where available, class-activation maps and feature distance.

    `forward` returns a dict of float32 tensors:

    - ``probabilities`` (n, classes): softmax(log p / temperature) of the network's p, which equals softmax(logits /
      temperature).
    - ``features`` (n, d): the input of the last linear layer.
    - ``class_activation_maps`` (n, classes, h', w'), only if the network ends in global average pooling and that layer: the
      layer's weights applied at each position of the last feature map (Zhou et al., CVPR 2016). With such a head, Grad-CAM
      (Selvaraju et al., ICCV 2017) is the same except for a factor of 1 / (h' w') and clipping at zero.
    - ``feature_distance`` (n,), only after `set_distance_parameters`: distance of the features from the nearest class mean in
      standard deviations (Mahalanobis; Lee et al., NeurIPS 2018).

    With several `tta_views`, p, features and maps are means over the views; maps are transformed back first.
    """

    def __init__(self, classifier: Classifier, tta_views: int = 1, temperature: float = 1.0) -> None:
        """Take a Classifier in evaluation mode, which is copied.

        Raises InvalidArgument for another number of views than 1, 5, 8 or 40, and IncompatibleError if the network doesn't
        end in a linear layer.
        """
        super().__init__()
        if tta_views not in TTA_VIEW_COUNTS:
            raise InvalidArgument("tta_views", tta_views, "1, 5, 8 or 40")
        self.tta_views = tta_views
        backbone, head, self.global_pooling = _split_head(classifier.network)
        self.backbone, self.head = backbone.eval(), head.eval()
        self.input_offset: Tensor
        self.input_scale: Tensor
        self.temperature: Tensor
        self.feature_mean: Tensor
        self.register_buffer("input_offset", 255 * classifier.mean.reshape(-1, 1, 1))
        self.register_buffer("input_scale", 1 / (255 * classifier.std.reshape(-1, 1, 1)))
        self.register_buffer("temperature", torch.tensor(temperature))
        self.register_buffer("feature_mean", None)  # (d,), over training cells
        self.register_buffer("whitening", None)  # (d, d), which gives the features unit covariance
        self.register_buffer("class_means", None)  # (classes, d), centered and whitened

    def set_distance_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the `DISTANCE_BUFFERS`, as `fit_feature_distance` returns them."""
        for name in DISTANCE_BUFFERS:
            setattr(self, name, tensors[name])

    def forward(self, cells: Tensor) -> dict[str, Tensor]:
        """Return the outputs that the class describes."""
        x = cells.to(self.head.weight.dtype)
        outputs_by_view = [self._forward_view(view, x) for view in make_tta_views(self.tta_views)]
        mean_outputs = {
            name: torch.stack([view_outputs[name] for view_outputs in outputs_by_view]).mean(0)
            for name in outputs_by_view[0]
            if name != "logits"
        }
        logits = ensemble_logits([view_outputs["logits"] for view_outputs in outputs_by_view])
        outputs = {"probabilities": torch.softmax(logits / self.temperature, dim=1), **mean_outputs}
        if self.whitening is not None:
            buffers = {name: cast(Tensor, getattr(self, name)) for name in DISTANCE_BUFFERS}
            outputs["feature_distance"] = feature_distance(outputs["features"], **buffers)
        return outputs

    def _forward_view(self, view: TTAView, x: Tensor) -> dict[str, Tensor]:
        feature_maps = self.backbone((view.apply(x) - self.input_offset) * self.input_scale)
        features = feature_maps.mean((2, 3)) if self.global_pooling else feature_maps
        outputs = {"logits": self.head(features), "features": features}
        if self.global_pooling:
            outputs["class_activation_maps"] = view.invert(F.conv2d(feature_maps, self.head.weight[:, :, None, None]))
        return outputs


def feature_distance(features: Tensor, feature_mean: Tensor, whitening: Tensor, class_means: Tensor) -> Tensor:
    """Return the distance (n,) of (n, d) features from the nearest class mean, by the `DISTANCE_BUFFERS`."""
    whitened = (features - feature_mean) @ whitening
    squared_distances = whitened.square().sum(1, keepdim=True) - 2 * whitened @ class_means.T
    squared_distances += class_means.square().sum(1)
    return squared_distances.amin(1).clamp_min(0).sqrt()


def _split_head(network: nn.Module) -> tuple[nn.Module, nn.Linear, bool]:
    """Return a copy without the last linear layer, that layer, and whether global average pooling comes before it.

    If it does, the copy ends before the pooling too. Layers are assumed to act in the order in which they are named.
    """
    backbone = fold_batch_norm(copy.deepcopy(network).eval())
    leaves = [(name, module) for name, module in backbone.named_modules() if not list(module.children())]
    leaves = [(name, module) for name, module in leaves if not isinstance(module, nn.Dropout | nn.Identity)]
    if not leaves or not isinstance(leaves[-1][1], nn.Linear):
        raise IncompatibleError(
            "Only networks whose last layer is linear can be packaged; classical baselines work from their run folder alone."
        )
    if len(leaves) > 1 and isinstance(leaves[-2][1], GlobalOrientationPool):
        backbone.set_submodule(leaves[-1][0], nn.Identity())
        backbone.set_submodule(leaves[-2][0], OrientationPool())
        return backbone, leaves[-1][1], True
    removed = [leaves[-1][0]]
    tail = [module for _, module in leaves[-3:-1]]
    pooled = len(tail) == 2 and isinstance(tail[0], nn.AdaptiveAvgPool2d) and isinstance(tail[1], nn.Flatten)
    pooled = pooled and cast(nn.AdaptiveAvgPool2d, tail[0]).output_size in (1, (1, 1))
    removed += [name for name, _ in leaves[-3:-1]] if pooled else []
    for name in removed:
        backbone.set_submodule(name, nn.Identity())
    return backbone, leaves[-1][1], pooled


def fit_feature_distance(features: Tensor, labels: Tensor, n_classes: int, ridge: float = 1e-3) -> dict[str, Tensor]:
    """Return the `DISTANCE_BUFFERS`, float32, fitted to (n, d) features and (n,) labels: class means and a shared covariance.

    `ridge` times the mean variance is added to every variance, so that a feature that is constant among training cells
    counts, but does not dominate. The mean of a class without labels is placed far away.
    """
    features = features.double()
    feature_mean = features.mean(0)
    counts = torch.bincount(labels, minlength=n_classes)
    sums = torch.zeros(n_classes, features.shape[1], dtype=torch.float64).index_add_(0, labels, features - feature_mean)
    class_means = sums / counts.clamp_min(1)[:, None]
    residuals = features - feature_mean - class_means[labels]
    covariance = residuals.T @ residuals / len(features)
    variance = covariance.diagonal().mean().clamp_min(1e-12)
    covariance += ridge * variance * torch.eye(len(covariance), dtype=torch.float64)
    whitening = torch.from_numpy(whitening_matrix(covariance.numpy()).copy())
    class_means = torch.where(counts[:, None] > 0, class_means @ whitening, 1e4)
    return {
        "feature_mean": feature_mean.float(),
        "whitening": whitening.float().contiguous(),
        "class_means": class_means.float(),
    }
