"""The feature distance is the Mahalanobis distance to the nearest class mean, with one covariance for all classes."""

from __future__ import annotations

import numpy as np
import torch

from nephros.exporters.inference_module import fit_feature_distance


def test_distances_to_class_means_are_mahalanobis() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    stretch = np.array([[2.0, 0.5], [0.0, 1.0]])
    features = generator.standard_normal((4000, 2)) @ stretch + np.array([[10.0, 0.0], [-10.0, 5.0]])[labels]
    fitted = fit_feature_distance(torch.from_numpy(features), torch.from_numpy(labels), 3, ridge=0.0)
    whitened = (torch.from_numpy(features).float() - fitted["feature_mean"]) @ fitted["whitening"]
    distances = torch.cdist(whitened, fitted["class_means"]).numpy()
    means = np.stack([features[labels == c].mean(axis=0) for c in (0, 1)])
    residuals = features - means[labels]
    precision = np.linalg.inv(residuals.T @ residuals / len(features))
    for c in (0, 1):
        offsets = features - means[c]
        expected = np.sqrt(np.einsum("ni,ij,nj->n", offsets, precision, offsets))
        assert np.allclose(distances[:, c], expected, rtol=1e-3, atol=1e-3)
    assert distances[:, 2].min() > 1000  # a class without cells is far from everything
