"""All ideas that were tried, in four rounds."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from torch import nn

from benchmarks.ideas import augmentations, labels, losses, optimizers
from benchmarks.ideas.d4_nets import d4_net
from benchmarks.ideas.idea import Idea
from benchmarks.ideas.residual_nets import residual_net


def _muon(lr: float, momentum: float = 0.9, aux_lr: float = 0.1) -> dict[str, Any]:
    settings = {"name": "muon", "lr": lr, "momentum": momentum, "aux_lr": aux_lr, "nesterov": False}
    return {f"optimizer.{key}": value for key, value in settings.items()}


_ROUND_1 = [
    Idea("start", "", "starting point: the recipe compact, in bf16", baseline="start"),
    Idea("float32", "precision", "full precision", {"amp": "off"}),
    # symmetry
    Idea("no-flips", "symmetry", "no flips or rotations", {"augment.flips": "none"}),
    Idea("mirror", "symmetry", "left-right flips alone", {"augment.flips": "horizontal"}),
    Idea("turning", "symmetry", "D4-equivariant convolutions, same widths", build=d4_net()),
    Idea("turning-wide", "symmetry", "the same, 1.5 times as wide", build=d4_net(widths=(48, 96, 192), last_fields=96)),
    Idea(
        "turning-still",
        "symmetry",
        "D4-equivariant convolutions, no flips or rotations in training",
        {"augment.flips": "none"},
        d4_net(),
    ),
    # augmentation
    Idea("no-shift", "augmentation", "no shifts", {"augment.shift": 0}),
    Idea("shift-1", "augmentation", "shifts of one pixel", {"augment.shift": 1}),
    Idea("shift-3", "augmentation", "shifts of three pixels", {"augment.shift": 3}),
    Idea(
        "rotate-15",
        "augmentation",
        "rotations of up to 15 degrees, bilinear",
        {"augment.rotate": 15.0, "augment.interpolation": "bilinear"},
    ),
    Idea(
        "rotate-45",
        "augmentation",
        "rotations of up to 45 degrees (any, with the quarter-turns)",
        {"augment.rotate": 45.0, "augment.interpolation": "bilinear"},
    ),
    Idea(
        "zoom",
        "augmentation",
        "zooms of up to a tenth",
        {"augment.scale": 0.1, "augment.interpolation": "bilinear"},
    ),
    Idea("cutout", "augmentation", "a black square of 8 pixels", patch_trainer=augmentations.cutout(8)),
    Idea("mixup", "augmentation", "mixup of .2", patch_trainer=augmentations.mixup(0.2)),
    Idea(
        "brightness",
        "augmentation",
        "brightness by up to a quarter",
        patch_trainer=augmentations.random_brightness(0.22),
    ),
    Idea(
        "growing",
        "augmentation",
        "20 pixels at first, 28 from the middle of the run",
        patch_trainer=augmentations.progressive_resizing(20, 0.5),
    ),
    # shape
    Idea("one-block", "shape", "one block per stage, more passes", build=residual_net(depths=(1, 1, 1))),
    Idea("1-2-3", "shape", "blocks 1, 2, 3", build=residual_net(depths=(1, 2, 3))),
    Idea("1-3-2", "shape", "blocks 1, 3, 2", build=residual_net(depths=(1, 3, 2))),
    Idea("wide", "shape", "widths 48, 96, 192", build=residual_net(widths=(48, 96, 192))),
    Idea(
        "wide-thin",
        "shape",
        "widths 64, 128, 256, one block per stage",
        build=residual_net(widths=(64, 128, 256), depths=(1, 1, 1)),
    ),
    Idea("32-96-192", "shape", "widths 32, 96, 192", build=residual_net(widths=(32, 96, 192), depths=(1, 2, 2))),
    Idea(
        "stem-4",
        "shape",
        "4x4 stem, symmetric about the image's middle",
        build=residual_net(stem="conv4", downsampling="conv4"),
    ),
    Idea("stem-6", "shape", "6x6 stem, symmetric about the image's middle", build=residual_net(stem="conv6")),
    Idea("stem-deep", "shape", "two convolutions in the stem", build=residual_net(stem="deep")),
    Idea("stem-patches", "shape", "2x2 pixels as channels, then 3x3", build=residual_net(stem="patches")),
    Idea("max-pool", "shape", "maximum pooling between stages", build=residual_net(downsampling="pool")),
    Idea("mean-pool", "shape", "mean pooling between stages", build=residual_net(downsampling="mean")),
    Idea("silu", "shape", "SiLU for ReLU", build=residual_net(act=partial(nn.SiLU, inplace=True))),
    Idea("gelu", "shape", "GELU for ReLU", build=residual_net(act=nn.GELU)),
    Idea("squeeze", "shape", "squeeze-and-excitation", build=residual_net(squeeze_excitation=True)),
    Idea("attention", "shape", "attention at 7x7", build=residual_net(attention=True)),
    Idea("depthwise", "shape", "depthwise blocks", build=residual_net(depthwise=True)),
    Idea("pre", "shape", "normalization before convolutions", build=residual_net(pre_activation=True)),
    Idea("head-both", "shape", "mean and maximum at the end", build=residual_net(head="both")),
    Idea("head-wide", "shape", "1x1 to four times the channels at the end", build=residual_net(head="wide")),
    Idea("dropout", "shape", "dropout of .2 before the last layer", {"model.dropout": 0.2}),
    # optimizer
    Idea("lr-0.1", "optimizer", "half the learning rate", {"optimizer.lr": 0.1}),
    Idea("lr-0.4", "optimizer", "twice the learning rate", {"optimizer.lr": 0.4}),
    Idea("batch-128", "optimizer", "batches of 128, learning rate .1", {"batch_size": 128, "optimizer.lr": 0.1}),
    Idea("batch-512", "optimizer", "batches of 512, learning rate .4", {"batch_size": 512, "optimizer.lr": 0.4}),
    Idea("decay-2e-3", "optimizer", "four times the weight decay", {"optimizer.weight_decay": 2e-3}),
    Idea("cosine", "optimizer", "cosine decay instead of linear", {"schedule.name": "cosine"}),
    Idea(
        "adamw",
        "optimizer",
        "AdamW at .003",
        {
            "optimizer.name": "adamw",
            "optimizer.lr": 3e-3,
            "optimizer.momentum": 0.0,
            "optimizer.nesterov": False,
            "optimizer.weight_decay": 0.05,
        },
    ),
    Idea("lion", "optimizer", "Lion at .0005", {"optimizer.lr": 5e-4}, patch_trainer=optimizers.with_lion(0.1)),
    Idea("muon", "optimizer", "Muon at .08, with fixed filter norms", _muon(0.08)),
    Idea("muon-0.04", "optimizer", "Muon at .04", _muon(0.04)),
    Idea("muon-0.16", "optimizer", "Muon at .16", _muon(0.16)),
    Idea("muon-m0.6", "optimizer", "Muon at .16 with momentum .6", _muon(0.16, momentum=0.6)),
    Idea(
        "fast-shifts",
        "optimizer",
        "biases of normalization layers at 16 times the learning rate",
        patch_trainer=optimizers.fast_norm_biases(16.0),
    ),
    # average
    Idea("ema", "average", "moving average of the weights, .998 per step", {"ema_decay": 0.998}),
    Idea("ema-short", "average", "moving average of the weights, .99 per step", {"ema_decay": 0.99}),
    # loss
    Idea("smoothing", "loss", "label smoothing .1", {"label_smoothing": 0.1}),
    Idea("gce", "loss", "generalized cross-entropy, q .3", patch_trainer=losses.generalized_cross_entropy(0.3)),
    Idea("bootstrap", "loss", "soft bootstrapping, .2", patch_trainer=losses.soft_bootstrapping(0.2)),
    Idea("symmetric-ce", "loss", "symmetric cross-entropy, .2", patch_trainer=losses.symmetric_cross_entropy(0.2)),
    Idea("focal", "loss", "focal loss, gamma 1", patch_trainer=losses.focal(1.0)),
    Idea("balanced", "loss", "balanced softmax (for macro F1)", patch_trainer=losses.balanced_softmax),
]

_ROUND_2_SETTINGS = {**_muon(0.04), "augment.flips": "none"}
"""Outcome of the first round: Muon and D4-equivariant convolutions."""


def _round_2_idea(
    name: str, group: str, description: str, settings: dict[str, Any] | None = None, **options: Any
) -> Idea:
    """Return an idea based on the second starting point."""
    changes = {"build": d4_net(), **options}
    return Idea(name, group, description, {**_ROUND_2_SETTINGS, **(settings or {})}, baseline="second", **changes)


_REPEATED = [
    "cosine",
    "no-shift",
    "shift-1",
    "rotate-45",
    "zoom",
    "cutout",
    "mixup",
    "brightness",
    "growing",
    "dropout",
    "smoothing",
    "gce",
    "bootstrap",
    "symmetric-ce",
    "focal",
    "balanced",
    "float32",
]
"""Ideas of the first round that are tried on the second starting point too."""

_ROUND_2 = [
    Idea("second", "", "Muon at .04 and D4-equivariant convolutions", _ROUND_2_SETTINGS, d4_net(), baseline="start"),
    _round_2_idea("second-flips", "symmetry", "flips and rotations in training too", {"augment.flips": "dihedral"}),
    _round_2_idea("second-0.02", "optimizer", "Muon at .02", _muon(0.02)),
    _round_2_idea("second-0.08", "optimizer", "Muon at .08", _muon(0.08)),
    _round_2_idea("second-rest-0.3", "optimizer", "other parameters at .3", _muon(0.04, aux_lr=0.3)),
    _round_2_idea("second-m0.95", "optimizer", "momentum .95", _muon(0.04, momentum=0.95)),
    _round_2_idea("second-m0.8", "optimizer", "momentum .8", _muon(0.04, momentum=0.8)),
    _round_2_idea(
        "second-batch-128", "optimizer", "batches of 128, learning rate .03", {"batch_size": 128, **_muon(0.03)}
    ),
    _round_2_idea(
        "second-batch-512", "optimizer", "batches of 512, learning rate .06", {"batch_size": 512, **_muon(0.06)}
    ),
    _round_2_idea("second-warmup", "optimizer", "warm-up of a twentieth", {"schedule.warmup": 0.05}),
    _round_2_idea("second-ema", "average", "moving average of the weights, .99 per step", {"ema_decay": 0.99}),
    _round_2_idea("second-wide", "shape", "1.5 times as wide", build=d4_net(widths=(48, 96, 192), last_fields=96)),
    _round_2_idea("second-wider", "shape", "twice as wide", build=d4_net(widths=(64, 128, 256), last_fields=128)),
    _round_2_idea(
        "second-thin", "shape", "twice as wide, one block", build=d4_net(widths=(64, 128, 256), depths=(1, 1, 1))
    ),
    _round_2_idea("second-1-block", "shape", "one block per stage", build=d4_net(depths=(1, 1, 1))),
    _round_2_idea("second-3-blocks", "shape", "three blocks per stage", build=d4_net(depths=(3, 3, 3))),
    _round_2_idea("second-1-2-3", "shape", "blocks 1, 2, 3", build=d4_net(depths=(1, 2, 3))),
    _round_2_idea("second-0-2-3", "shape", "blocks 0, 2, 3", build=d4_net(depths=(0, 2, 3))),
    _round_2_idea("second-flat", "shape", "widths 64, 96, 128", build=d4_net(widths=(64, 96, 128))),
    _round_2_idea("second-stem-4", "shape", "4x4 stem", build=d4_net(stem_kernel=4)),
    _round_2_idea("second-stem-8", "shape", "8x8 stem", build=d4_net(stem_kernel=8)),
    _round_2_idea("second-deep", "shape", "3x3 at full resolution first", build=d4_net(stem="deep")),
    _round_2_idea("second-mean-pool", "shape", "mean pooling between stages", build=d4_net(downsampling="mean")),
    _round_2_idea("second-silu", "shape", "SiLU for ReLU", build=d4_net(act=nn.SiLU)),
    _round_2_idea("second-gelu", "shape", "GELU for ReLU", build=d4_net(act=nn.GELU)),
    _round_2_idea("second-squeeze", "shape", "squeeze-and-excitation", build=d4_net(squeeze_excitation=True)),
    _round_2_idea("second-max", "shape", "maximum over orientations", build=d4_net(pool="max")),
    _round_2_idea("second-both", "shape", "mean and maximum over orientations", build=d4_net(pool="both")),
    _round_2_idea("second-last-128", "shape", "128 fields at the end", build=d4_net(last_fields=128)),
    _round_2_idea(
        "second-oof-half",
        "labels",
        "half of the loss on out-of-fold probabilities",
        {"distillation_weight": 0.5},
        make_soft_targets=labels.out_of_fold,
    ),
    _round_2_idea(
        "second-oof",
        "labels",
        "all of the loss on out-of-fold probabilities",
        {"distillation_weight": 1.0},
        make_soft_targets=labels.out_of_fold,
    ),
    _round_2_idea(
        "second-relabel",
        "labels",
        "out-of-fold probabilities where confident learning suspects a label",
        {"distillation_weight": 1.0},
        make_soft_targets=labels.relabeled,
    ),
    _round_2_idea(
        "second-again",
        "labels",
        "born again: .7 of the loss on an earlier network's probabilities",
        {"distillation_weight": 0.7},
        make_soft_targets=labels.born_again,
    ),
]


def _round_3_idea(
    name: str, group: str, description: str, settings: dict[str, Any] | None = None, **changes: Any
) -> Idea:
    """Return an idea based on one block per stage."""
    idea = _round_2_idea(name, group, description, settings, build=d4_net(**{"depths": (1, 1, 1), **changes}))
    return dataclasses.replace(idea, baseline="second-1-block")


_ROUND_3 = [
    _round_3_idea(
        "third-batch-128", "optimizer", "batches of 128, learning rate .03", {"batch_size": 128, **_muon(0.03)}
    ),
    _round_3_idea("third-0.02", "optimizer", "Muon at .02", _muon(0.02)),
    _round_3_idea("third-0.01", "optimizer", "Muon at .01", _muon(0.01)),
    _round_3_idea("third-0.06", "optimizer", "Muon at .06", _muon(0.06)),
    _round_3_idea("third-warmup", "optimizer", "warm-up of a twentieth", {"schedule.warmup": 0.05}),
    _round_3_idea("third-ema", "average", "moving average of the weights, .99 per step", {"ema_decay": 0.99}),
    _round_3_idea("third-still", "shape", "blocks initialized as the identity", zero_init_residual=True),
    _round_3_idea("third-wide", "shape", "1.5 times as wide", widths=(48, 96, 192), last_fields=96),
    _round_3_idea("third-narrow", "shape", "three quarters as wide", widths=(24, 48, 96), last_fields=48),
    _round_3_idea("third-0-1-1", "shape", "blocks 0, 1, 1", depths=(0, 1, 1)),
    _round_3_idea("third-1-1-0", "shape", "blocks 1, 1, 0", depths=(1, 1, 0)),
    _round_3_idea("third-flat", "shape", "widths 32, 64, 96", widths=(32, 64, 96)),
    _round_3_idea("third-last-32", "shape", "32 fields at the end", last_fields=32),
    _round_3_idea("third-deep", "shape", "3x3 at full resolution first", stem="deep"),
    _round_3_idea("third-stem-8", "shape", "8x8 stem", stem_kernel=8),
    _round_3_idea("third-both", "shape", "mean and maximum over orientations", pool="both"),
    _round_3_idea(
        "third-views", "test time", "mean over an image and its one-pixel shifts at test time", {"tta_views": 5}
    ),
    _round_3_idea("third-squeeze", "shape", "squeeze-and-excitation", squeeze_excitation=True),
]
"""Ideas based on one block per stage, the second round's winner."""


def _distilled(
    name: str, description: str, teachers: tuple[str, ...], lr: float = 0.02, distillation_weight: float = 0.9
) -> Idea:
    """Return an idea that is distilled from finished runs of nephros."""
    settings = {"distillation_weight": distillation_weight, **_muon(lr)}
    idea = _round_3_idea(name, "labels", description, settings)
    return dataclasses.replace(
        idea, make_soft_targets=labels.distilled_from(*teachers), baseline="third-0.02", can_be_screened=False
    )


_ROUND_4 = [
    _distilled("fourth-taught", ".9 of the loss distills nephros, seed 0", ("nephros-0",)),
    _distilled("fourth-taught-two", ".9 of the loss distills nephros, seeds 0 and 1", ("nephros-0", "nephros-1")),
    _distilled(
        "fourth-taught-wholly", "all of the loss distills nephros, seed 0", ("nephros-0",), distillation_weight=1.0
    ),
    _distilled(
        "fourth-taught-0.04", ".9 of the loss distills nephros, seed 0, and Muon at .04", ("nephros-0",), lr=0.04
    ),
]
"""Distillation with half of Muon's learning rate, on all images only (--stage full)."""

IDEAS = [
    *_ROUND_1,
    *_ROUND_2,
    *_ROUND_3,
    *_ROUND_4,
    *(
        _round_2_idea(f"second-{i.name}", i.group, i.description, i.settings, patch_trainer=i.patch_trainer)
        for i in _ROUND_1
        if i.name in _REPEATED
    ),
]
