"""NephNet3D: its published size, its slices, and what it refuses."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import nephros
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.models import build_network, default_input_spec
from nephros.models.classifier import InputSpec
from nephros.models.flops import count_multiply_adds, count_parameters
from nephros.models.stages import class_scores, feature_maps, network_stages
from nephros.presets import RECIPES

MODEL = RECIPES["nephnet3d"].model
CROPS = InputSpec(1, 32, 32, 8, depth=7)


def small(spec: InputSpec = CROPS) -> nn.Module:
    torch.manual_seed(0)
    return build_network(dataclasses.replace(MODEL, base_channels=2), spec)


def test_size_as_its_authors_notebook_prints_it() -> None:
    # notebooks/3d_model_hdf5.ipynb of awoloshuk/NephNet: "Trainable params: 560,985" with 16 features and 9 classes
    network = build_network(dataclasses.replace(MODEL, base_channels=16), dataclasses.replace(CROPS, n_classes=9))
    assert count_parameters(network) == 560_985
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert (shapes["features.1.weight"], shapes["head.0.weight"]) == ((16, 1, 3, 3, 3), (128, 2048))


def test_multiply_adds_count_the_depth() -> None:
    n, voxels = 2, 7 * 32 * 32
    blocks = 27 * (n + n * n) * voxels + 27 * (2 * n * n + 4 * n * n) * 3 * 16 * 16 + 27 * (8 * n * n + 16 * n * n) * 64
    dense = 9 * 4 * n * 8 * n * 16 + 8 * n * 16 * 8 * n + 8 * n * 4 * n + 4 * n * 8
    assert count_multiply_adds(small(), CROPS) == blocks + dense


@pytest.mark.parametrize(
    "spec", [CROPS, InputSpec(1, 28, 28, 11, 28), InputSpec(1, 9, 14, 2, 2), InputSpec(1, 32, 32, 3, 16)]
)
def test_any_depth_size_and_classes(spec: InputSpec) -> None:
    network = small(spec)
    volumes = torch.randn(3, spec.planes, spec.height, spec.width)
    logits = network.eval()(volumes)
    assert logits.shape == (3, spec.n_classes)
    maps = feature_maps(network, volumes)
    assert maps.ndim == 5
    torch.testing.assert_close(class_scores(network, maps), logits)
    assert list(network_stages(network)) == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]


def test_the_order_of_slices_matters_and_a_gradient_reaches_every_weight() -> None:
    network = small().eval()
    volumes = torch.randn(4, 7, 32, 32)
    assert not torch.allclose(network(volumes), network(volumes.flip(1)))
    torch.nn.functional.cross_entropy(network.train()(volumes), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters() if p.ndim > 1)


def test_images_and_volumes_are_not_mixed_up() -> None:
    with pytest.raises(IncompatibleError, match="images"):
        build_network(MODEL, InputSpec(1, 32, 32, 8))
    with pytest.raises(IncompatibleError, match="7 slices"):
        build_network(RECIPES["nephnet2d"].model, CROPS)
    with pytest.raises(IncompatibleError, match="7x7"):
        build_network(MODEL, InputSpec(1, 7, 7, 2, depth=7))


def test_create_model_makes_it_for_any_depth() -> None:
    net = nephros.create_model("nephnet3d", num_classes=4, depth=5, image_size=16).eval()
    volumes = torch.randint(0, 256, (2, 5, 16, 16), dtype=torch.uint8)
    assert net(volumes).shape == (2, 4)
    torch.testing.assert_close(net.forward_head(net.forward_features(volumes)), net(volumes))
    assert default_input_spec(MODEL) == CROPS
    for arguments in ({"in_channels": 3}, {"depth": 0}):
        with pytest.raises(InvalidArgument) as exc_info:
            nephros.create_model("nephnet3d", **arguments)  # type: ignore[arg-type]
        assert exc_info.value.parameter == next(iter(arguments))
    with pytest.raises(IncompatibleError):
        nephros.create_model("poster", depth=7)
