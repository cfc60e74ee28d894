"""A trained network with all that comes before and after it, as one module: stored pixels in, answers out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.errors import UserError
from nephros.models.classifier import Classifier
from nephros.models.dihedral import FieldMeans, OrientationMeans
from nephros.models.folded import fold
from nephros.models.tta import View, mean_of_logits, views
from nephros.recipe import VIEWS


class Packaged(nn.Module):
    """(n, c, h, w) uint8 cells -> probabilities, features and, where the network allows, class-activation maps and distance.

    `forward` returns a dict of float32 tensors:

    - ``probabilities`` (n, classes): softmax(log p / temperature) of the network's own p; that is softmax(logits / temperature).
    - ``features`` (n, d): what the last linear layer is given.
    - ``maps`` (n, classes, h', w'), only where the network ends in the mean over positions and that layer: the layer's
      weights applied at each position of the last feature map (Zhou et al., CVPR 2016). With such a head Grad-CAM
      (Selvaraju et al., ICCV 2017) is the same, but for a factor of 1 / (h' w') and the cut at zero.
    - ``distance`` (n,), only once `add_distance` was called: of the features to the nearest class mean, in standard
      deviations (Mahalanobis; Lee et al., NeurIPS 2018).

    With more `views` than one, p, features and maps are means over them, maps turned back first.
    """

    def __init__(self, classifier: Classifier, count: int = 1, temperature: float = 1.0) -> None:
        """Take a Classifier in evaluation mode, which stays as it is; UserError where its network has no linear last layer."""
        super().__init__()
        if count not in VIEWS:
            raise UserError(f"--views is {count}, but it must be 1, 5, 8 or 40.")
        self.views = count
        body, last, self.pooled = _parted(classifier.network)
        self.body, self.last = body.eval(), last.eval()
        self.offset: Tensor
        self.factor: Tensor
        self.centre: Tensor
        self.register_buffer("offset", 255 * classifier.mean.reshape(-1, 1, 1))
        self.register_buffer("factor", 1 / (255 * classifier.std.reshape(-1, 1, 1)))
        self.register_buffer("temperature", torch.tensor(temperature))
        self.temperature: Tensor
        self.register_buffer("centre", None)  # (d,), of the features of training cells
        self.register_buffer("whitening", None)  # (d, d), by which those become of unit covariance
        self.register_buffer("means", None)  # (classes, d), after both

    def add_distance(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what `distance_tensors` fitted: `centre`, `whitening` and `means`."""
        for name in ("centre", "whitening", "means"):
            setattr(self, name, tensors[name])

    def forward(self, cells: Tensor) -> dict[str, Tensor]:
        """Return the answers named above."""
        x = cells.to(self.last.weight.dtype)
        seen = [self._seen(view, x) for view in views(self.views)]
        mean = {name: torch.stack([one[name] for one in seen]).mean(0) for name in seen[0] if name != "logits"}
        logits = mean_of_logits([one["logits"] for one in seen])
        found = {"probabilities": torch.softmax(logits / self.temperature, dim=1), **mean}
        if self.whitening is not None:
            found["distance"] = self._distance(found["features"])
        return found

    def _seen(self, view: View, x: Tensor) -> dict[str, Tensor]:
        body = self.body((view.of(x) - self.offset) * self.factor)
        features = body.mean((2, 3)) if self.pooled else body
        found = {"logits": self.last(features), "features": features}
        if self.pooled:
            found["maps"] = view.undone(F.conv2d(body, self.last.weight[:, :, None, None]))
        return found

    def _distance(self, features: Tensor) -> Tensor:
        z = (features - self.centre) @ cast(Tensor, self.whitening)
        means = cast(Tensor, self.means)
        squares = z.square().sum(1, keepdim=True) - 2 * z @ means.T + means.square().sum(1)
        return squares.amin(1).clamp_min(0).sqrt()


def _parted(network: nn.Module) -> tuple[nn.Module, nn.Linear, bool]:
    """Return a copy without its last linear layer, that layer, and whether what it was given is the mean over positions.

    Where it is, the copy ends before that mean too. Layers are taken to act in the order in which they are named.
    """
    body = fold(copy.deepcopy(network).eval())
    leaves = [(name, part) for name, part in body.named_modules() if not list(part.children())]
    leaves = [(name, part) for name, part in leaves if not isinstance(part, nn.Dropout | nn.Identity)]
    if not leaves or not isinstance(leaves[-1][1], nn.Linear):
        raise UserError(
            "Only networks whose last layer is linear can be packaged; classical baselines stay with their run."
        )
    if len(leaves) > 1 and isinstance(leaves[-2][1], FieldMeans):
        body.set_submodule(leaves[-1][0], nn.Identity())
        body.set_submodule(leaves[-2][0], OrientationMeans())
        return body, leaves[-1][1], True
    gone = [leaves[-1][0]]
    tail = [part for _, part in leaves[-3:-1]]
    pooled = len(tail) == 2 and isinstance(tail[0], nn.AdaptiveAvgPool2d) and isinstance(tail[1], nn.Flatten)
    pooled = pooled and cast(nn.AdaptiveAvgPool2d, tail[0]).output_size in (1, (1, 1))
    gone += [name for name, _ in leaves[-3:-1]] if pooled else []
    for name in gone:
        body.set_submodule(name, nn.Identity())
    return body, leaves[-1][1], pooled


def distance_tensors(features: Tensor, labels: Tensor, classes: int, ridge: float = 1e-3) -> dict[str, Tensor]:
    """Fit class means and one covariance for all classes to (n, d) features and (n,) labels; float32 tensors.

    `ridge` of the mean variance is added to every variance, so that a feature that training cells never had tells
    something, but not all. `means` of a class that the labels lack are far away.
    """
    features = features.double()
    centre = features.mean(0)
    counts = torch.bincount(labels, minlength=classes)
    sums = torch.zeros(classes, features.shape[1], dtype=torch.float64).index_add_(0, labels, features - centre)
    means = sums / counts.clamp_min(1)[:, None]
    within = features - centre - means[labels]
    covariance = within.T @ within / len(features)
    variance = covariance.diagonal().mean().clamp_min(1e-12)
    covariance += ridge * variance * torch.eye(len(covariance), dtype=torch.float64)
    # With C = L L', |L^-1 x| is the Mahalanobis length of x.
    whitening = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), torch.eye(len(covariance), dtype=torch.float64), upper=False
    ).T
    means = torch.where(counts[:, None] > 0, means @ whitening, 1e4)
    return {"centre": centre.float(), "whitening": whitening.float().contiguous(), "means": means.float()}
