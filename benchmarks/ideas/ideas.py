"""All ideas that were tried."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from torch import nn

from benchmarks.ideas import labels, losses
from benchmarks.ideas.idea import Idea
from benchmarks.ideas.nets import net
from benchmarks.ideas.symmetric import turning


def _muon(lr: float, momentum: float = 0.9, rest_lr: float = 0.1) -> dict[str, Any]:
    own = {"name": "muon", "lr": lr, "momentum": momentum, "rest_lr": rest_lr, "nesterov": False}
    return {f"optimizer.{key}": value for key, value in own.items()}


_FIRST = [
    Idea("start", "", "where it began: the recipe compact, in bf16", against="start"),
    Idea("float32", "precision", "full precision", {"amp": "off"}),
    # symmetry
    Idea("no-flips", "symmetry", "no flips or turns", {"augment.flips": "none"}),
    Idea("mirror", "symmetry", "left-right flips alone", {"augment.flips": "horizontal"}),
    Idea("turning", "symmetry", "convolutions that turn with the image, exactly, same widths", build=turning()),
    Idea("turning-wide", "symmetry", "the same, 1.5 times as wide", build=turning(widths=(48, 96, 192), last=96)),
    Idea(
        "turning-still",
        "symmetry",
        "turning convolutions, no flips or turns in training",
        {"augment.flips": "none"},
        turning(),
    ),
    # augmentation
    Idea("no-shift", "augmentation", "no shifts", {"augment.shift": 0}),
    Idea("shift-1", "augmentation", "shifts of one pixel", {"augment.shift": 1}),
    Idea("shift-3", "augmentation", "shifts of three pixels", {"augment.shift": 3}),
    Idea(
        "rotate-15",
        "augmentation",
        "rotations of up to 15 degrees, between pixels",
        {"augment.rotate": 15.0, "augment.interpolation": "bilinear"},
    ),
    Idea(
        "rotate-45",
        "augmentation",
        "rotations of up to 45 degrees (with the turns: any)",
        {"augment.rotate": 45.0, "augment.interpolation": "bilinear"},
    ),
    Idea(
        "zoom",
        "augmentation",
        "zooms of up to a tenth",
        {"augment.scale": 0.1, "augment.interpolation": "bilinear"},
    ),
    Idea("cutout", "augmentation", "a black square of 8 pixels", patch=losses.cut_out(8)),
    Idea("mixup", "augmentation", "mixup of .2", patch=losses.mixed_up(0.2)),
    Idea("brightness", "augmentation", "brightness by up to a quarter", patch=losses.brightness(0.22)),
    Idea("growing", "augmentation", "20 pixels first, 28 from the middle of the run", patch=losses.growing(20, 0.5)),
    # shape
    Idea("one-block", "shape", "one block a stage, longer", build=net(depths=(1, 1, 1))),
    Idea("1-2-3", "shape", "blocks 1, 2, 3", build=net(depths=(1, 2, 3))),
    Idea("1-3-2", "shape", "blocks 1, 3, 2", build=net(depths=(1, 3, 2))),
    Idea("wide", "shape", "widths 48, 96, 192", build=net(widths=(48, 96, 192))),
    Idea(
        "wide-thin",
        "shape",
        "widths 64, 128, 256, one block a stage",
        build=net(widths=(64, 128, 256), depths=(1, 1, 1)),
    ),
    Idea("32-96-192", "shape", "widths 32, 96, 192", build=net(widths=(32, 96, 192), depths=(1, 2, 2))),
    Idea("stem-4", "shape", "4x4 stem, symmetric about the image's middle", build=net(stem="conv4", down="conv4")),
    Idea("stem-6", "shape", "6x6 stem, symmetric about the image's middle", build=net(stem="conv6")),
    Idea("stem-deep", "shape", "two convolutions in the stem", build=net(stem="deep")),
    Idea("stem-patches", "shape", "2x2 pixels as channels, then 3x3", build=net(stem="patches")),
    Idea("max-pool", "shape", "maximum pooling between stages", build=net(down="pool")),
    Idea("mean-pool", "shape", "mean pooling between stages", build=net(down="mean")),
    Idea("silu", "shape", "SiLU for ReLU", build=net(act=partial(nn.SiLU, inplace=True))),
    Idea("gelu", "shape", "GELU for ReLU", build=net(act=nn.GELU)),
    Idea("squeeze", "shape", "squeeze-and-excitation", build=net(squeeze=True)),
    Idea("attention", "shape", "attention at 7x7", build=net(attention=True)),
    Idea("depthwise", "shape", "depthwise blocks", build=net(depthwise=True)),
    Idea("pre", "shape", "normalisation before convolutions", build=net(pre=True)),
    Idea("head-both", "shape", "mean and maximum at the end", build=net(head="both")),
    Idea("head-wide", "shape", "1x1 to four times the channels at the end", build=net(head="wide")),
    Idea("dropout", "shape", "dropout of .2 before the last layer", {"model.dropout": 0.2}),
    # optimiser
    Idea("lr-0.1", "optimiser", "half the rate", {"optimizer.lr": 0.1}),
    Idea("lr-0.4", "optimiser", "twice the rate", {"optimizer.lr": 0.4}),
    Idea("batch-128", "optimiser", "batches of 128, rate .1", {"batch_size": 128, "optimizer.lr": 0.1}),
    Idea("batch-512", "optimiser", "batches of 512, rate .4", {"batch_size": 512, "optimizer.lr": 0.4}),
    Idea("decay-2e-3", "optimiser", "four times the weight decay", {"optimizer.weight_decay": 2e-3}),
    Idea("cosine", "optimiser", "cosine for the linear fall", {"schedule.name": "cosine"}),
    Idea(
        "adamw",
        "optimiser",
        "AdamW at .003",
        {
            "optimizer.name": "adamw",
            "optimizer.lr": 3e-3,
            "optimizer.momentum": 0.0,
            "optimizer.nesterov": False,
            "optimizer.weight_decay": 0.05,
        },
    ),
    Idea("lion", "optimiser", "Lion at .0005", {"optimizer.lr": 5e-4}, patch=losses.with_lion(0.1)),
    Idea("muon", "optimiser", "Muon, norms of filters held, at .08", _muon(0.08)),
    Idea("muon-0.04", "optimiser", "Muon at .04", _muon(0.04)),
    Idea("muon-0.16", "optimiser", "Muon at .16", _muon(0.16)),
    Idea("muon-m0.6", "optimiser", "Muon at .16 with momentum .6", _muon(0.16, momentum=0.6)),
    Idea("fast-shifts", "optimiser", "normalisation's shifts at 16 times the rate", patch=losses.fast_shifts(16.0)),
    # average
    Idea("ema", "average", "moving average of the weights, .998 a step", {"ema": 0.998}),
    Idea("ema-short", "average", "moving average of the weights, .99 a step", {"ema": 0.99}),
    # loss
    Idea("smoothing", "loss", "label smoothing .1", {"label_smoothing": 0.1}),
    Idea("gce", "loss", "generalised cross-entropy, q .3", patch=losses.generalised(0.3)),
    Idea("bootstrap", "loss", "soft bootstrapping, .2", patch=losses.bootstrapped(0.2)),
    Idea("symmetric-ce", "loss", "symmetric cross-entropy, .2", patch=losses.symmetric(0.2)),
    Idea("focal", "loss", "focal loss, gamma 1", patch=losses.focal(1.0)),
    Idea("balanced", "loss", "balanced softmax (for macro F1)", patch=losses.balanced),
]

_SECOND = {**_muon(0.04), "augment.flips": "none"}
"""What the first round led to: Muon, and convolutions that turn with the image."""


def _then(name: str, group: str, words: str, settings: dict[str, Any] | None = None, **options: Any) -> Idea:
    """Return an idea that is laid over the second start."""
    changes = {"build": turning(), **options}
    return Idea(name, group, words, {**_SECOND, **(settings or {})}, against="second", **changes)


_AGAIN = [
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
"""Ideas of the first round that are tried over the second start, too."""

_LATER = [
    Idea("second", "", "Muon at .04 and turning convolutions", _SECOND, turning(), against="start"),
    _then("second-flips", "symmetry", "flips and turns in training too", {"augment.flips": "dihedral"}),
    _then("second-0.02", "optimiser", "Muon at .02", _muon(0.02)),
    _then("second-0.08", "optimiser", "Muon at .08", _muon(0.08)),
    _then("second-rest-0.3", "optimiser", "all else at .3", _muon(0.04, rest_lr=0.3)),
    _then("second-m0.95", "optimiser", "momentum .95", _muon(0.04, momentum=0.95)),
    _then("second-m0.8", "optimiser", "momentum .8", _muon(0.04, momentum=0.8)),
    _then("second-batch-128", "optimiser", "batches of 128, rate .03", {"batch_size": 128, **_muon(0.03)}),
    _then("second-batch-512", "optimiser", "batches of 512, rate .06", {"batch_size": 512, **_muon(0.06)}),
    _then("second-warmup", "optimiser", "warm-up of a twentieth", {"schedule.warmup": 0.05}),
    _then("second-ema", "average", "moving average of the weights, .99 a step", {"ema": 0.99}),
    _then("second-wide", "shape", "1.5 times as wide", build=turning(widths=(48, 96, 192), last=96)),
    _then("second-wider", "shape", "twice as wide", build=turning(widths=(64, 128, 256), last=128)),
    _then("second-thin", "shape", "twice as wide, one block", build=turning(widths=(64, 128, 256), depths=(1, 1, 1))),
    _then("second-1-block", "shape", "one block a stage", build=turning(depths=(1, 1, 1))),
    _then("second-3-blocks", "shape", "three blocks a stage", build=turning(depths=(3, 3, 3))),
    _then("second-1-2-3", "shape", "blocks 1, 2, 3", build=turning(depths=(1, 2, 3))),
    _then("second-0-2-3", "shape", "blocks 0, 2, 3", build=turning(depths=(0, 2, 3))),
    _then("second-flat", "shape", "widths 64, 96, 128", build=turning(widths=(64, 96, 128))),
    _then("second-stem-4", "shape", "4x4 stem", build=turning(stem=4)),
    _then("second-stem-8", "shape", "8x8 stem", build=turning(stem=8)),
    _then("second-deep", "shape", "3x3 at full resolution first", build=turning(first="deep")),
    _then("second-mean-pool", "shape", "mean pooling between stages", build=turning(down="mean")),
    _then("second-silu", "shape", "SiLU for ReLU", build=turning(act=nn.SiLU)),
    _then("second-gelu", "shape", "GELU for ReLU", build=turning(act=nn.GELU)),
    _then("second-squeeze", "shape", "squeeze-and-excitation", build=turning(squeeze=True)),
    _then("second-max", "shape", "maximum over orientations", build=turning(pool="max")),
    _then("second-both", "shape", "mean and maximum over orientations", build=turning(pool="both")),
    _then("second-last-128", "shape", "128 fields at the end", build=turning(last=128)),
    _then(
        "second-oof-half",
        "labels",
        "half of the loss follows out-of-fold answers",
        {"teacher_share": 0.5},
        targets=labels.out_of_fold,
    ),
    _then(
        "second-oof",
        "labels",
        "the whole loss follows out-of-fold answers",
        {"teacher_share": 1.0},
        targets=labels.out_of_fold,
    ),
    _then(
        "second-relabel",
        "labels",
        "out-of-fold answers where confident learning doubts a label",
        {"teacher_share": 1.0},
        targets=labels.relabelled,
    ),
    _then(
        "second-again",
        "labels",
        "born again: .7 of the loss follows an earlier network",
        {"teacher_share": 0.7},
        targets=labels.born_again,
    ),
]


def _shallow(name: str, group: str, words: str, settings: dict[str, Any] | None = None, **plan: Any) -> Idea:
    """Return an idea that is laid over one block a stage."""
    idea = _then(name, group, words, settings, build=turning(**{"depths": (1, 1, 1), **plan}))
    return dataclasses.replace(idea, against="second-1-block")


_THIRD = [
    _shallow("third-batch-128", "optimiser", "batches of 128, rate .03", {"batch_size": 128, **_muon(0.03)}),
    _shallow("third-0.02", "optimiser", "Muon at .02", _muon(0.02)),
    _shallow("third-0.01", "optimiser", "Muon at .01", _muon(0.01)),
    _shallow("third-0.06", "optimiser", "Muon at .06", _muon(0.06)),
    _shallow("third-warmup", "optimiser", "warm-up of a twentieth", {"schedule.warmup": 0.05}),
    _shallow("third-ema", "average", "moving average of the weights, .99 a step", {"ema": 0.99}),
    _shallow("third-still", "shape", "blocks begin as the identity", still=True),
    _shallow("third-wide", "shape", "1.5 times as wide", widths=(48, 96, 192), last=96),
    _shallow("third-narrow", "shape", "three quarters as wide", widths=(24, 48, 96), last=48),
    _shallow("third-0-1-1", "shape", "blocks 0, 1, 1", depths=(0, 1, 1)),
    _shallow("third-1-1-0", "shape", "blocks 1, 1, 0", depths=(1, 1, 0)),
    _shallow("third-flat", "shape", "widths 32, 64, 96", widths=(32, 64, 96)),
    _shallow("third-last-32", "shape", "32 fields at the end", last=32),
    _shallow("third-deep", "shape", "3x3 at full resolution first", first="deep"),
    _shallow("third-stem-8", "shape", "8x8 stem", stem=8),
    _shallow("third-both", "shape", "mean and maximum over orientations", pool="both"),
    _shallow(
        "third-views", "test time", "the mean over an image and its shifts by a pixel, at test time", {"views": 5}
    ),
    _shallow("third-squeeze", "shape", "squeeze-and-excitation", squeeze=True),
]
"""What is laid over one block a stage, which was the second round's winner."""


def _taught(name: str, words: str, teachers: tuple[str, ...], rate: float = 0.02, share: float = 0.9) -> Idea:
    """Return an idea that is taught by finished runs of nephros."""
    settings = {"teacher_share": share, **_muon(rate)}
    idea = _shallow(name, "labels", words, settings)
    return dataclasses.replace(idea, targets=labels.taught_by(*teachers), against="third-0.02", screened=False)


_FOURTH = [
    _taught("fourth-taught", ".9 of the loss follows nephros, seed 0", ("nephros-0",)),
    _taught("fourth-taught-two", ".9 follows nephros, seeds 0 and 1", ("nephros-0", "nephros-1")),
    _taught("fourth-taught-wholly", "the whole loss follows nephros, seed 0", ("nephros-0",), share=1.0),
    _taught("fourth-taught-0.04", ".9 follows nephros, seed 0, and Muon at .04", ("nephros-0",), rate=0.04),
]
"""What is laid over half of Muon's rate, on all images alone (--stage full)."""

IDEAS = [
    *_FIRST,
    *_LATER,
    *_THIRD,
    *_FOURTH,
    *(_then(f"second-{i.name}", i.group, i.words, i.settings, patch=i.patch) for i in _FIRST if i.name in _AGAIN),
]
