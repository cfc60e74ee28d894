"""Stages of every network: together all of its layers, each once."""

from __future__ import annotations

import pytest

from nephros.errors import InvalidArgument, UnknownName
from nephros.models import build_network
from nephros.models.classifier import InputSpec
from nephros.models.stages import check_freeze, freeze_stages, last_linear, network_stages
from nephros.presets import NETWORK_RECIPES

EXPECTED = {
    "course-1": ["stem", "stage1", "head"],
    "course-4": ["stem", "head"],
    "poster": ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
    "nephnet2d": ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
    "compact": ["stem", "stage1", "stage2", "stage3", "head"],
    "nephros-fast": ["stem", "stage1", "stage2", "stage3", "head"],
    "medmnist-resnet18": ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_stages_hold_every_parameter_once(name: str) -> None:
    network = build_network(NETWORK_RECIPES[name].model, InputSpec(1, 28, 28, 8))
    stages = network_stages(network)
    assert list(stages) == EXPECTED[name]
    names = [
        f"{layer}.{parameter}"
        for layers in stages.values()
        for layer in layers
        for parameter, _ in network.get_submodule(layer).named_parameters()
    ]
    assert sorted(names) == sorted(parameter for parameter, _ in network.named_parameters())
    assert any(last_linear(network).startswith(layer) for layer in stages["head"])


def test_frozen_stages_have_no_gradients() -> None:
    network = build_network(NETWORK_RECIPES["compact"].model, InputSpec(1, 28, 28, 8))
    freeze_stages(network, ["stem", "stage1"])
    stages = network_stages(network)
    for stage, layers in stages.items():
        gradients = {p.requires_grad for layer in layers for p in network.get_submodule(layer).parameters()}
        assert gradients <= {stage not in ("stem", "stage1")}, stage


def test_what_can_not_be_frozen_is_refused() -> None:
    network = build_network(NETWORK_RECIPES["course-1"].model, InputSpec(1, 28, 28, 8))
    with pytest.raises(UnknownName) as unknown:
        check_freeze(network, ["stem", "stage3"])
    assert unknown.value.options == ("stem", "stage1", "head")
    for freeze, head_is_new in (
        (["stem", "stem"], False),
        (["stem", "stage1", "head"], False),
        (["head"], True),
    ):
        with pytest.raises(InvalidArgument) as exc_info:
            check_freeze(network, freeze, head_is_new=head_is_new)
        assert exc_info.value.parameter == "freeze"
    check_freeze(network, ["head"])
