"""The classical baselines as modules: nearest neighbours and support vector machines behind a network's face.

Each is a function of the tensors that it stores, so that its weights are saved, loaded, moved to a device and judged as a
network's are. `nephros.training.classical` makes the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CHUNK_SIZE = 16384
"""Stored images compared at once: they and the distances to them stay in a few dozen MB."""
ABSENT_CLASS_SCORE = -30.0
"""Score of a class that no training image has."""


class ClassicalModel(nn.Module):
    """(n, 1 or 3, h, w) images in 0..1 -> (n, classes) logits: scale x scores + shift, calibrated on validation.

    Tensors of every kind: `scale` and `shift` (classes,), `present` (m,) int64, the classes that were learnt. Features are
    the flattened pixels, less `centre` (d,), along the columns of `basis` (d, f), over `spread` (); each where stored.
    """

    scale: Tensor
    shift: Tensor
    present: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def extract_features(self, x_nchw: Tensor) -> Tensor:
        """Return (n, f) features of images in 0..1."""
        return project_features(x_nchw.flatten(1), dict(self.named_buffers()))

    def scores(self, features: Tensor) -> Tensor:
        """Return (n, m) uncalibrated scores of the classes present, the highest for the likeliest."""
        raise NotImplementedError

    def count_multiply_adds(self) -> int:
        """Return those of one image."""
        raise NotImplementedError

    def all_scores(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) uncalibrated scores."""
        return self.expand_to_all_classes(self.scores(self.extract_features(x_nchw)))

    def expand_to_all_classes(self, scores: Tensor) -> Tensor:
        """Return (n, classes) scores from those (n, m) of the classes present."""
        all_scores = scores.new_full((len(scores), len(self.scale)), ABSENT_CLASS_SCORE)
        all_scores[:, self.present] = scores
        return all_scores

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits."""
        return self.scale * self.all_scores(x_nchw) + self.shift


def uncalibrated_tensors(present_classes: NDArray[np.int64], n_classes: int) -> dict[str, Tensor]:
    """Return the tensors of every classical model, not calibrated yet; `present_classes` (m,) are the classes learnt."""
    return {"present": torch.tensor(present_classes), "scale": torch.ones(n_classes), "shift": torch.zeros(n_classes)}


def project_features(pixels: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return (n, f) features of (n, d) pixels by those of `centre`, `basis` and `spread` that there are."""
    if "centre" in tensors:
        pixels = pixels - tensors["centre"]
    if "basis" in tensors:
        pixels = pixels @ tensors["basis"]
    return pixels / tensors["spread"] if "spread" in tensors else pixels


class KNNClassifier(ClassicalModel):
    """Exact neighbours by brute force: shares of the classes among the `count` () nearest of the stored images.

    `bank` (k, f) holds their features, uint8 where those are pixels, and `answers` (k,) int64 their labels. How far
    image i is from a query q is ranked by offset_i - factor_i (q . bank_i), with `offset` and `factor` (k,): with
    |b|^2 and 2 by Euclidean distance, with 0 and 1 / |b| by cosine. `prior` (m,) are the classes' shares of all, which
    stand for one vote more, so that no class has probability zero.
    """

    bank: Tensor
    answers: Tensor
    offset: Tensor
    factor: Tensor
    count: Tensor
    prior: Tensor

    def kneighbors(self, features: Tensor, n_neighbors: int) -> Tensor:
        """Return the (n, count) int64 indices of the nearest stored images, the nearest first."""
        distances = features.new_empty((len(features), 0))
        indices = torch.empty((len(features), 0), dtype=torch.int64, device=features.device)
        for start in range(0, len(self.bank), CHUNK_SIZE):
            rows = slice(start, start + CHUNK_SIZE)
            chunk_distances = self.offset[rows] - self.factor[rows] * (features @ self.bank[rows].to(features.dtype).T)
            nearest, positions = chunk_distances.topk(min(n_neighbors, chunk_distances.shape[1]), largest=False)
            distances, indices = torch.cat([distances, nearest], dim=1), torch.cat([indices, positions + start], dim=1)
            distances, kept = distances.topk(min(n_neighbors, distances.shape[1]), largest=False)
            indices = indices.gather(1, kept)
        return indices

    def log_vote_fractions(self, neighbor_indices: Tensor) -> Tensor:
        """Return (n, m) logarithms of the classes' shares among the (n, count) neighbours and the prior."""
        class_index = torch.searchsorted(self.present, self.answers[neighbor_indices])
        votes = torch.zeros(len(neighbor_indices), len(self.present), device=neighbor_indices.device)
        votes.scatter_add_(1, class_index, torch.ones_like(class_index, dtype=votes.dtype))
        return ((votes + self.prior) / (neighbor_indices.shape[1] + 1)).log()

    def scores(self, features: Tensor) -> Tensor:
        """Return (n, m) logarithms of the classes' shares."""
        return self.log_vote_fractions(self.kneighbors(features, int(self.count)))

    def count_multiply_adds(self) -> int:
        """Return those of one image: one with every stored number, and the projection."""
        return self.bank.numel() + projection_multiply_adds(self)


class LinearSVM(ClassicalModel):
    """One hyperplane a class: features . weight_c + bias_c, with `weight` (m, f) and `bias` (m,)."""

    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Return (n, m) signed distances from the hyperplanes, in units of the margin."""
        return features @ self.weight.T + self.bias

    def count_multiply_adds(self) -> int:
        """Return those of one image."""
        return self.weight.numel() + projection_multiply_adds(self)


class KernelSVM(ClassicalModel):
    """exp(-gamma |x - landmark|^2) . weight + bias, with `landmarks` (k, f), `gamma` (), `weight` (k, s) and `bias` (s,).

    s is m, one column a class; or, where there are `pairs` (s, m), one column for each pair of classes, 1 for the first
    and -1 for the second: then the score is the votes won, with the summed confidences as a tie-break below one vote, as
    scikit-learn's SVC has it (decision_function_shape "ovr").
    """

    landmarks: Tensor
    gamma: Tensor
    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Return (n, m) sums over landmarks, or votes."""
        sums = rbf_kernel(features, self.landmarks, self.gamma) @ self.weight + self.bias
        pairs = dict(self.named_buffers()).get("pairs")
        if pairs is None:
            return sums
        votes = (torch.where(sums < 0, -1.0, 1.0) @ pairs + len(self.present) - 1) / 2
        confidence = sums @ pairs
        return votes + confidence / (3 * (confidence.abs() + 1))

    def count_multiply_adds(self) -> int:
        """Return those of one image: distances and weights; the exponentials are not counted."""
        return self.landmarks.numel() + self.weight.numel() + projection_multiply_adds(self)


def rbf_kernel(features: Tensor, landmarks: Tensor, gamma: Tensor) -> Tensor:
    """Return (n, k) exp(-gamma |x - y|^2) of (n, f) and (k, f) features."""
    squares = features.square().sum(dim=1, keepdim=True) + landmarks.square().sum(dim=1)
    return torch.exp(-gamma * (squares - 2 * features @ landmarks.T).clamp_min(0))


def projection_multiply_adds(model: ClassicalModel) -> int:
    """Return the multiply-adds of an image's features."""
    return dict(model.named_buffers())["basis"].numel() if hasattr(model, "basis") else 0


CLASSICAL_MODELS: dict[str, type[ClassicalModel]] = {
    "knn": KNNClassifier,
    "svm-linear": LinearSVM,
    "svm-rbf": KernelSVM,
}
"""The baselines by the name that a recipe's model.network gives."""
