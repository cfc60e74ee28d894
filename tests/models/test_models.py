"""All networks: their cost, output shapes, gradients, and files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from nephros.errors import FileError, IncompatibleError, UnknownName
from nephros.models import MODELS, build_network, default_input_spec
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.flops import count_multiply_adds, count_parameters
from nephros.models.serialization import load_model, save_model
from nephros.presets import NETWORK_RECIPES
from nephros.recipe import ModelConfig

TISSUE = InputSpec(1, 28, 28, 8)

# From the published works and their repositories: the course report's table, the poster's figure, NephNet2D, MedMNIST.
PARAMETERS = {
    "course-1": 105_478,
    "course-2": 342_578,
    "course-3": 105_478,
    "course-4": 201_658,
    "course-5": 105_478,
    "course-6": 105_478,
    "course-7": 105_478,
    "poster": 250_904,
    "poster-printed": 250_904,
    "nephnet2d": 3_933_896,
    "nephnet3d": 2_238_504,
    "medmnist-resnet18": 11_171_784,
    "medmnist-resnet50": 23_515_592,
    "strong-baseline": 11_171_784,
    "compact": 870_376,
    "nephros": 281_464,
    "nephros-distilled": 281_464,
    "nephros-fast": 70_848,
    "nephros-large": 1_122_024,
}


def _narrow(name: str) -> ModelConfig:
    model = NETWORK_RECIPES[name].model
    return dataclasses.replace(model, base_channels=max(4, model.base_channels // 8))


def test_every_recipe_has_an_expected_size_and_every_network_a_recipe() -> None:
    assert set(PARAMETERS) == set(NETWORK_RECIPES)
    assert {recipe.model.network for recipe in NETWORK_RECIPES.values()} == set(MODELS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name: str) -> None:
    model = NETWORK_RECIPES[name].model
    assert count_parameters(build_network(model, default_input_spec(model))) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("poster", 4_932_736),
        ("nephnet2d", 56_558_080),
        ("course-1", 526_760),
        ("compact", 26_128_512),
        ("nephros", 63_563_776),
    ],
)
def test_multiply_adds(name: str, expected: int) -> None:
    assert count_multiply_adds(build_network(NETWORK_RECIPES[name].model, TISSUE), TISSUE) == expected


@pytest.mark.parametrize(
    "spec", [InputSpec(1, 28, 28, 8), InputSpec(3, 28, 28, 2), InputSpec(3, 64, 64, 11), InputSpec(1, 30, 44, 5)]
)
@pytest.mark.parametrize(
    "name", ["course-1", "course-4", "poster", "nephnet2d", "medmnist-resnet18", "compact", "nephros"]
)
def test_any_size_channels_and_classes(name: str, spec: InputSpec) -> None:
    network = build_network(_narrow(name), spec)
    logits = network(torch.randn(3, spec.channels, spec.height, spec.width))
    assert logits.shape == (3, spec.n_classes)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("size", [128, 224])
def test_large_images(size: int) -> None:
    spec = InputSpec(1, size, size, 8)
    for name in ("course-1", "poster", "compact", "nephros"):
        assert build_network(_narrow(name), spec)(torch.zeros(2, 1, size, size)).shape == (2, 8)


@pytest.mark.parametrize(
    "name", ["course-1", "poster", "nephnet2d", "medmnist-resnet18", "medmnist-resnet50", "compact", "nephros"]
)
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(dataclasses.replace(_narrow(name), dropout=0.0), TISSUE)
    logits = network(torch.randn(16, 1, 28, 28))
    torch.nn.functional.cross_entropy(logits, torch.arange(16) % 8).backward()  # type: ignore[no-untyped-call]
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        # A bias before BatchNorm has a gradient of zero in exact arithmetic; weights must feel the loss.
        if parameter.ndim > 1:
            assert parameter.grad.abs().max() > 0, parameter_name


def test_dropout_is_for_training_only() -> None:
    network = build_network(dataclasses.replace(NETWORK_RECIPES["poster"].model, base_channels=4), TISSUE)
    x = torch.randn(4, 1, 28, 28)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_course_padding_replicates_the_border() -> None:
    network = build_network(NETWORK_RECIPES["course-1"].model, TISSUE)
    convolution = next(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
    flat = convolution(torch.full((1, 1, 28, 28), 0.7))
    assert torch.allclose(flat, flat[:, :, :1, :1].expand_as(flat), atol=1e-6)


def test_too_small_images_and_unknown_networks_are_refused() -> None:
    with pytest.raises(IncompatibleError, match="4x4"):
        build_network(NETWORK_RECIPES["poster"].model, InputSpec(1, 4, 4, 8))
    with pytest.raises(UnknownName, match="Did you mean 'poster'") as exc_info:
        build_network(ModelConfig(network="postr"), TISSUE)
    assert (exc_info.value.parameter, exc_info.value.value) == ("model.network", "postr")


def test_the_classifier_normalizes_each_channel() -> None:
    model = Classifier(torch.nn.Flatten(), [0.5, 0.1], [0.5, 0.2])
    images = torch.randint(0, 256, (2, 2, 3, 3), dtype=torch.uint8)
    expected = torch.stack([(images[:, 0] / 255 - 0.5) / 0.5, (images[:, 1] / 255 - 0.1) / 0.2], dim=1).flatten(1)
    assert torch.allclose(model(images), expected, atol=1e-6)


def test_a_loaded_model_predicts_as_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = NETWORK_RECIPES["course-1"].model
    model = Classifier(build_network(config, TISSUE), [0.1], [0.2]).eval()
    path = tmp_path / "weights.safetensors"
    names = tuple(f"class {c}" for c in range(8))
    save_model(path, model.state_dict(), config, TISSUE, names)
    loaded, loaded_names = load_model(path)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28), dtype=np.uint8))
    assert torch.allclose(loaded(images), model(images), atol=1e-6)
    assert loaded_names == names


def test_missing_and_damaged_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileError, match="missing") as exc_info:
        load_model(path)
    assert exc_info.value.path == path
    path.write_bytes(b"not weights at all")
    with pytest.raises(FileError, match="damaged") as exc_info:
        load_model(path)
    assert exc_info.value.path == path
