"""Networks as torch modules: by name, with random or trained weights, for any number of classes and channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nephros
from nephros.data.synthetic import make_synthetic
from nephros.errors import IncompatibleError, InvalidArgument, UnknownName
from nephros.models.tta import make_tta_views
from nephros.presets import NETWORK_RECIPES
from tests.conftest import square_images

IMAGES = torch.from_numpy(square_images(6, 4, seed=0)[0])[:, None]
SMALL = ("nephros-fast", "compact", "course-1", "course-4", "poster", "medmnist-resnet18")


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_every_kind_of_network_has_timms_methods(name: str) -> None:
    net = nephros.create_model(name, num_classes=5, in_channels=2).eval()
    assert isinstance(net, nn.Module)
    images = torch.cat([IMAGES, IMAGES.flip(0)], dim=1)
    logits, maps = net(images), net.forward_features(images)
    assert (logits.shape, maps.ndim, len(maps)) == ((6, 5), 4, 6)
    torch.testing.assert_close(net.forward_head(maps), logits)
    features = net.forward_head(maps, pre_logits=True)
    assert features.shape == (6, net.num_features)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net.reset_classifier(3)
    assert (net(images).shape, net.num_classes) == ((6, 3), 3)
    torch.testing.assert_close(net.forward_head(net.forward_features(images), pre_logits=True), features)
    changed = [key for key, value in net.state_dict().items() if value.shape != before[key].shape]
    assert len(changed) == 2  # weight and bias of one layer


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NETWORK_RECIPES) - set(SMALL)))
def test_every_listed_network_can_be_created(name: str) -> None:
    images = torch.zeros(6, 7, 32, 32) if name == "nephnet3d" else IMAGES
    assert nephros.create_model(name, num_classes=3)(images).shape == (6, 3)


@torch.no_grad()
def test_trained_weights_give_the_bundled_models_scores() -> None:
    net = nephros.create_model("nephros", pretrained=True)
    assert net.training
    assert net.num_classes == 8
    clf = nephros.load_classifier(tta=True)
    images = IMAGES[:, 0].numpy()
    views = [net.eval().forward_features(view.apply(IMAGES)) for view in make_tta_views(5)]
    features = torch.stack([net.forward_head(maps, pre_logits=True) for maps in views]).mean(0)
    np.testing.assert_allclose(features, clf.embed(images), atol=1e-3)


@torch.no_grad()
def test_trained_weights_are_inflated_to_three_channels() -> None:
    gray, color = (nephros.create_model("nephros", in_channels=c, pretrained=True).eval() for c in (1, 3))
    torch.testing.assert_close(color(IMAGES.repeat(1, 3, 1, 1)), gray(IMAGES), atol=1e-4, rtol=1e-4)


def test_trained_weights_keep_their_body_for_other_classes() -> None:
    torch.manual_seed(0)
    net, eight = (nephros.create_model("nephros", num_classes=n, pretrained=True).eval() for n in (4, 8))
    assert (net(IMAGES).shape, eight(IMAGES).shape) == ((6, 4), (6, 8))
    torch.testing.assert_close(net.forward_features(IMAGES), eight.forward_features(IMAGES))


@torch.no_grad()
def test_training_mode_keeps_the_trained_features() -> None:
    """Batch normalization has the statistics of cells, not of filters that it was folded into: training goes on from there."""
    net = nephros.create_model("nephros", pretrained=True)
    images = torch.from_numpy(make_synthetic(64, 8, 8, seed=1).train.images)[:, None]
    in_evaluation, in_training = net.eval()(images).flatten(), net.train()(images).flatten()
    assert torch.corrcoef(torch.stack([in_evaluation, in_training]))[0, 1] > 0.9


@pytest.mark.parametrize(
    ("arguments", "error", "parameter"),
    [
        ({"name": "nephrs"}, UnknownName, "name"),
        ({"name": "knn"}, UnknownName, "name"),
        ({"name": "course-1", "pretrained": True}, UnknownName, "name"),
        ({"num_classes": 0}, InvalidArgument, "num_classes"),
        ({"num_classes": True}, InvalidArgument, "num_classes"),
        ({"in_channels": 0}, InvalidArgument, "in_channels"),
        ({"in_channels": 1.5}, InvalidArgument, "in_channels"),
        ({"image_size": -28}, InvalidArgument, "image_size"),
        ({"image_size": 64, "pretrained": True}, InvalidArgument, "image_size"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[InvalidArgument], parameter: str) -> None:
    with pytest.raises(error) as caught:
        nephros.create_model(**arguments)
    assert caught.value.parameter == parameter


def test_other_bad_arguments() -> None:
    with pytest.raises(IncompatibleError):
        nephros.create_model("nephros", image_size=4)
    for n in (0, -1, 2.0, None):
        with pytest.raises(InvalidArgument):
            nephros.create_model("compact").reset_classifier(n)  # type: ignore[arg-type]
