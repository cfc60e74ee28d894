"""Classical baselines as torch modules: k-nearest neighbors and support vector machines with the interface of a network.

Each is a function of the tensors that it stores, so that it is saved, loaded, moved to a device and evaluated like a network.
`nephros.training.classical` computes the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CHUNK_SIZE = 16384
"""Number of stored images compared at once: their features and distances take a few dozen MB."""
ABSENT_CLASS_SCORE = -30.0
"""Score of a class without training images."""


class ClassicalModel(nn.Module):
    """Maps (n, 1 or 3, h, w) images in 0..1 to (n, classes) logits: scale * scores + shift, calibrated on validation.

    Every model stores `scale` and `shift` (classes,) and `present_classes` (m,) int64, the classes with training images. Its
    features are the flattened pixels minus `center` (d,), projected on the columns of `basis` (d, f), divided by
    `feature_scale` (); each of these where it is stored.
    """

    scale: Tensor
    shift: Tensor
    present_classes: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def extract_features(self, x_nchw: Tensor) -> Tensor:
        """Return (n, f) features of images in 0..1."""
        return project_features(x_nchw.flatten(1), dict(self.named_buffers()))

    def scores(self, features: Tensor) -> Tensor:
        """Return (n, m) uncalibrated scores of the classes with training images, the highest for the most likely."""
        raise NotImplementedError

    def count_multiply_adds(self) -> int:
        """Return the multiply-adds for one image."""
        raise NotImplementedError

    def all_scores(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) uncalibrated scores."""
        return self.expand_to_all_classes(self.scores(self.extract_features(x_nchw)))

    def expand_to_all_classes(self, scores: Tensor) -> Tensor:
        """Return (n, classes) scores from the (n, m) scores of the classes with training images."""
        all_scores = scores.new_full((len(scores), len(self.scale)), ABSENT_CLASS_SCORE)
        all_scores[:, self.present_classes] = scores
        return all_scores

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits."""
        return self.scale * self.all_scores(x_nchw) + self.shift


def uncalibrated_tensors(present_classes: NDArray[np.int64], n_classes: int) -> dict[str, Tensor]:
    """Return the tensors that every model stores, before calibration; `present_classes` (m,) have training images."""
    return {
        "present_classes": torch.tensor(present_classes),
        "scale": torch.ones(n_classes),
        "shift": torch.zeros(n_classes),
    }


def project_features(pixels: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the (n, f) features of (n, d) pixels, by `center`, `basis` and `feature_scale` where they are given."""
    if "center" in tensors:
        pixels = pixels - tensors["center"]
    if "basis" in tensors:
        pixels = pixels @ tensors["basis"]
    return pixels / tensors["feature_scale"] if "feature_scale" in tensors else pixels


class KNNClassifier(ClassicalModel):
    """k-nearest neighbors by brute force: class shares among the `n_neighbors` () nearest stored images.

    `train_features` (k, f) holds the features of the stored images, uint8 where they are pixels, and `train_labels` (k,) int64
    their labels. Stored images b_i are ranked by distance_offset_i - distance_factor_i * (q . b_i) from a query q, with
    `distance_offset` and `distance_factor` (k,): |b|^2 and 2 for the Euclidean distance, 0 and 1 / |b| for the cosine.
    `class_prior` (m,), the class shares of all stored images, counts as one further vote, so that no probability is zero.
    """

    train_features: Tensor
    train_labels: Tensor
    distance_offset: Tensor
    distance_factor: Tensor
    n_neighbors: Tensor
    class_prior: Tensor

    def kneighbors(self, features: Tensor, n_neighbors: int) -> Tensor:
        """Return the (n, n_neighbors) int64 indices of the nearest stored images, the nearest first."""
        distances = features.new_empty((len(features), 0))
        indices = torch.empty((len(features), 0), dtype=torch.int64, device=features.device)
        for start in range(0, len(self.train_features), CHUNK_SIZE):
            rows = slice(start, start + CHUNK_SIZE)
            products = features @ self.train_features[rows].to(features.dtype).T
            chunk_distances = self.distance_offset[rows] - self.distance_factor[rows] * products
            nearest, positions = chunk_distances.topk(min(n_neighbors, chunk_distances.shape[1]), largest=False)
            distances, indices = torch.cat([distances, nearest], dim=1), torch.cat([indices, positions + start], dim=1)
            distances, order = distances.topk(min(n_neighbors, distances.shape[1]), largest=False)
            indices = indices.gather(1, order)
        return indices

    def log_vote_fractions(self, neighbor_indices: Tensor) -> Tensor:
        """Return the (n, m) log shares of the classes among the (n, n_neighbors) neighbors and the prior."""
        class_index = torch.searchsorted(self.present_classes, self.train_labels[neighbor_indices])
        votes = torch.zeros(len(neighbor_indices), len(self.present_classes), device=neighbor_indices.device)
        votes.scatter_add_(1, class_index, torch.ones_like(class_index, dtype=votes.dtype))
        return ((votes + self.class_prior) / (neighbor_indices.shape[1] + 1)).log()

    def scores(self, features: Tensor) -> Tensor:
        """Return the (n, m) log shares of the classes."""
        return self.log_vote_fractions(self.kneighbors(features, int(self.n_neighbors)))

    def count_multiply_adds(self) -> int:
        """Return the multiply-adds for one image: one per stored number, and the projection."""
        return self.train_features.numel() + projection_multiply_adds(self)


class LinearSVM(ClassicalModel):
    """Linear one-vs-rest SVM: features . weight_c + bias_c, with `weight` (m, f) and `bias` (m,)."""

    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Return (n, m) signed distances from the hyperplanes in units of the margin."""
        return features @ self.weight.T + self.bias

    def count_multiply_adds(self) -> int:
        """Return the multiply-adds for one image."""
        return self.weight.numel() + projection_multiply_adds(self)


class KernelSVM(ClassicalModel):
    """SVM with an RBF kernel: exp(-gamma |x - landmark|^2) . weight + bias.

    `landmarks` are (k, f), `gamma` (), `weight` (k, s) and `bias` (s,), with a column per class. Where `pairs` (s, m) is stored,
    there is a column per pair of classes instead, and `pairs` is 1 for its first class and -1 for its second; the score is then
    the number of votes, with the summed confidences below one vote as a tie-break, as in scikit-learn's SVC
    (decision_function_shape "ovr").
    """

    landmarks: Tensor
    gamma: Tensor
    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Return (n, m) sums over landmarks, or votes where `pairs` is stored."""
        sums = rbf_kernel(features, self.landmarks, self.gamma) @ self.weight + self.bias
        pairs = dict(self.named_buffers()).get("pairs")
        if pairs is None:
            return sums
        votes = (torch.where(sums < 0, -1.0, 1.0) @ pairs + len(self.present_classes) - 1) / 2
        confidence = sums @ pairs
        return votes + confidence / (3 * (confidence.abs() + 1))

    def count_multiply_adds(self) -> int:
        """Return the multiply-adds for one image: distances and weights, but not the exponentials."""
        return self.landmarks.numel() + self.weight.numel() + projection_multiply_adds(self)


def rbf_kernel(features: Tensor, landmarks: Tensor, gamma: Tensor) -> Tensor:
    """Return (n, k) exp(-gamma |x - y|^2) of (n, f) and (k, f) features."""
    squares = features.square().sum(dim=1, keepdim=True) + landmarks.square().sum(dim=1)
    return torch.exp(-gamma * (squares - 2 * features @ landmarks.T).clamp_min(0))


def projection_multiply_adds(model: ClassicalModel) -> int:
    """Return the multiply-adds of the projection of one image to features."""
    return dict(model.named_buffers())["basis"].numel() if hasattr(model, "basis") else 0


CLASSICAL_MODELS: dict[str, type[ClassicalModel]] = {
    "knn": KNNClassifier,
    "svm-linear": LinearSVM,
    "svm-rbf": KernelSVM,
}
"""The baselines by their names in a recipe's `model.network`."""
