"""Stages of a network, by which layers are frozen: ``stem``, ``stage1``, ``stage2`` and so on, and ``head``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nephros.errors import InvalidArgument, UnknownName


def network_stages(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return stage -> the names of its layers in `network`, as `network.get_submodule` takes them.

    The stem ends with the first activation and its pooling. A stage begins after the stem, at every layer with a stride, and
    after every pooling. The head is what maps the pooled features to classes.
    """
    has_features = hasattr(network, "features")
    prefix = "features." if has_features else ""
    layers = dict((network.get_submodule("features") if has_features else network).named_children())
    n_features = len(layers)
    if not has_features:
        n_features = next(i for i, layer in enumerate(layers.values()) if isinstance(layer, nn.AdaptiveAvgPool2d))
    stages: dict[str, list[str]] = {"stem": []}
    stem_ended = begins = False
    for name, layer in list(layers.items())[:n_features]:
        is_pool = isinstance(layer, nn.AvgPool2d | nn.MaxPool2d | nn.MaxPool3d)
        if stem_ended and not is_pool and (begins or len(stages) == 1 or _has_stride(layer)):
            stages[f"stage{len(stages)}"] = []
        stages[list(stages)[-1]].append(prefix + name)
        stem_ended = stem_ended or isinstance(layer, nn.ReLU | nn.LeakyReLU)
        begins = is_pool
    head = ("head",) if has_features else tuple(list(layers)[n_features:])
    return {**{stage: tuple(names) for stage, names in stages.items()}, "head": head}


def _has_stride(layer: nn.Module) -> bool:
    return any(max(module.stride) > 1 for module in layer.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))


def check_freeze(network: nn.Module, freeze: Sequence[str], *, head_is_new: bool = False) -> None:
    """Raise InvalidArgument unless `freeze` names stages of the network, each once, not all, and no head that begins anew."""
    stages = network_stages(network)
    for stage in freeze:
        if stage not in stages:
            raise UnknownName("freeze", stage, stages, kind="stage", hint=f"This network has {', '.join(stages)}.")
    names = ", ".join(freeze)
    if len(set(freeze)) < len(freeze):
        raise InvalidArgument("freeze", names, "a list without repetitions")
    if head_is_new and "head" in freeze:
        raise InvalidArgument("freeze", names, "a list without the head, which begins anew for these classes")
    if set(freeze) == set(stages):
        raise InvalidArgument("freeze", names, "such that at least one stage is left to train")


def freeze_stages(network: nn.Module, freeze: Sequence[str]) -> list[nn.Module]:
    """Turn off the gradients of the named stages and return their layers, which must stay in evaluation mode.

    In evaluation mode their batch normalization uses, and keeps, the statistics that came with the weights.
    """
    stages = network_stages(network)
    layers = [network.get_submodule(name) for stage in freeze for name in stages[stage]]
    for layer in layers:
        layer.requires_grad_(False)
    return layers


def feature_maps(network: nn.Module, x_nchw: Tensor) -> Tensor:
    """Return the maps (n, d, h', w') that the head pools or flattens, of normalized images."""
    if hasattr(network, "features"):
        return network.get_submodule("features")(x_nchw)  # type: ignore[no-any-return]
    for layer in _before_pooling(network):
        x_nchw = layer(x_nchw)
    return x_nchw


def class_scores(network: nn.Module, maps: Tensor) -> Tensor:
    """Return the (n, classes) logits of what `feature_maps` returned."""
    if hasattr(network, "pool"):
        maps = network.get_submodule("pool")(maps)
    if hasattr(network, "features"):
        head = network.get_submodule("head")
        is_pooled = maps.ndim == 2 or isinstance(next(head.children()), nn.AdaptiveAvgPool2d)
        return head(maps if is_pooled else maps.flatten(1))  # type: ignore[no-any-return]
    for layer in list(network.children())[len(_before_pooling(network)) :]:
        maps = layer(maps)
    return maps


def _before_pooling(network: nn.Module) -> list[nn.Module]:
    layers = list(network.children())
    return layers[: next(i for i, layer in enumerate(layers) if isinstance(layer, nn.AdaptiveAvgPool2d))]


def last_linear(network: nn.Module) -> str:
    """Return the name of the network's last layer, which gives the class scores."""
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return names[-1]
