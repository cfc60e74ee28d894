"""Fine-tuning: classes of the user's own, from a few labels, on weights that were trained on many images of cells."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nephros import device as devices
from nephros.data.dataset import Dataset, log_notes
from nephros.distributed import SINGLE_PROCESS
from nephros.errors import IncompatibleError, InvalidArgument, UnknownName
from nephros.evaluation.largest_class import no_better_than_largest_class
from nephros.exporters.pretrained import open_pretrained
from nephros.files import check_writable
from nephros.finetuning.choice import METHODS
from nephros.finetuning.cross_validation import Candidate, best_candidate, cross_validate
from nephros.finetuning.features import with_channels
from nephros.finetuning.fitting import fit_best_head, fit_method
from nephros.finetuning.label_review import (
    ClassRecall,
    SuspiciousLabel,
    class_recalls,
    learning_curve,
    suspicious_labels,
)
from nephros.finetuning.network import FittedMethod, frozen_stages, make_recipe
from nephros.finetuning.problem import Problem, make_problem, reserved_groups
from nephros.inference.model_names import BUNDLED
from nephros.microscopy.voxel_size import VoxelSize
from nephros.models.classifier import Classifier, PretrainedModel
from nephros.runs import InitRecord, describe_init
from nephros.training.model_init import init_model, input_spec
from nephros.training.run_info import RUNS_DIR, build_run_info
from nephros.training.warm_start import overlap_warnings, start_from
from nephros.workflows.finetune_data import OpenedData, open_data
from nephros.workflows.finetuned_run import finetuning_record, write_finetuned_run
from nephros.workflows.run import Run
from nephros.workflows.training_run import check_test_split

logger = logging.getLogger(__name__)

MANY_IMAGES = 20_000
"""Training images from which comparing methods takes hours."""
N_FOLDS = 5
"""Folds of cross-validation, unless classes or groups are too few."""


@dataclass(frozen=True, repr=False)
class Finetuning:
    """A fine-tuned run, and what led to it."""

    run: Run
    candidates: list[Candidate]
    """Every method in cross-validation, baselines last."""
    kept: Candidate
    recalls: list[ClassRecall]
    """In cross-validation; the class that needs labels most comes first."""
    learning_curve: list[tuple[int, float]]
    """Labels and accuracy in cross-validation, of the head alone."""
    suspicious: list[SuspiciousLabel]
    """Labels that look wrong, the least probable first; also in the run's suspicious_labels.csv. Empty where the kept method is
    not clearly better than always predicting the largest class, and so can't tell."""

    def __repr__(self) -> str:
        accuracies = ", ".join(f"{candidate.method} {candidate.metrics.accuracy:.3f}" for candidate in self.candidates)
        return f"<Finetuning {self.run.root}: {self.kept.method} of {accuracies} in cross-validation>"


def finetune(
    data: Any,
    labels: Any = None,
    *,
    unlabeled: Any = None,
    init: str | Path = BUNDLED,
    methods: str | Sequence[str] | None = None,
    folds: int = N_FOLDS,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    size: int | None = None,
    subset: int | None = None,
    resplit: Sequence[int] | None = None,
    data_seed: int = 0,
    white_level: float | None = None,
    channel: int | str | None = None,
    groups: Any = "auto",
    mask: str | Path | None = None,
    classes: str | Path | None = None,
    id_column: str | None = None,
    class_column: str | None = None,
    patient: str | None = None,
    image: int | str | None = None,
    axes: str | None = None,
    level: int | str | None = None,
    time_point: int | None = None,
    voxel_size: VoxelSize | None = None,
    min_volume: float | None = None,
    stitch_threshold: float | None = None,
    test: bool = False,
    command: str = "",
) -> Finetuning:
    """Fit `init` to the classes of `data` by each method, keep the best by cross-validation as a run, and return it.

        nephros.finetune(images, labels, groups=patients)
        nephros.finetune("folder of images")
        nephros.finetune(["K4.tif", "K5.tif"], mask="{stem}_mask.tif", classes="{stem}.csv")

    The methods are compared on the train split, by group where groups are known: ``head`` (logistic regression on the features
    of the network), ``last-stage`` and ``network`` (trained from there), ``self-training`` (the network, which then learns from
    its own predictions for unlabeled images too), ``scratch`` (nephros-fast from random weights), beside k-nearest neighbors and
    always the largest class. With few labels the highest accuracy is luck: the method that did best on classes that its weights
    had not seen, which is ``self-training`` or, without unlabeled images, ``network``, is kept unless another is clearly better
    (`nephros.finetuning.choice.choose_method`). What is kept is fitted again to the whole train split.
    Validation chooses nothing, so its accuracy is that of new cells.

    Args:
        data: as `nephros.train` takes it, or images in memory as `Dataset.from_arrays` takes them. Images are resized to the
            network's size, but for volumes and those of an open Dataset; color gets a first layer that is spread over three
            channels. Or one or several stacks with `classes`, whose nuclei are prepared as `nephros.prepare` does and kept in the
            run folder as cells.npz; the nuclei of a stack, or of a patient, stay together.
        labels: of images in memory, (n,).
        unlabeled: images of the same kind without labels, which ``self-training`` learns from: in memory, or files and folders as
            `nephros.predict` takes them. With stacks, the nuclei without a class are used as well, except those of a stack that
            is held out. The groups of `unlabeled` are unknown: where it holds further cells of labeled samples, the accuracy of
            self-training by group is that of samples whose cells it has seen.
        init: weights to start from, as `nephros.train` takes them.
        methods: which to compare; the head alone takes seconds. By default all that the data allow, with ``self-training`` only
            where `unlabeled` is given: it takes as long as the others together.
        folds: of cross-validation; fewer where a class or the groups are too few.
        seed: of the folds, of training and of initial weights.
        out: the run folder, which must not exist yet (default: runs/finetune-METHOD-DATE-TIME).
        device: auto, cpu or cuda.
        size, subset, resplit, data_seed, white_level, channel: passed to `nephros.load_dataset`, for data given by name or path;
            `data_seed`, `white_level` and `channel` also to `Dataset.from_arrays`.
        groups: a rule, as `nephros.load_dataset` takes it; for images in memory the group of each, (n,), such as its patient or
            stack, whose images stay together in the split and in cross-validation. Where a class is in one group only, or the
            groups are too few, ``auto`` draws by image, with a warning.
        mask, classes, id_column, class_column, patient, image, axes, level, time_point, voxel_size, min_volume, stitch_threshold:
            of stacks, as `nephros.prepare` takes them, and `channel`.
        test: also score the test split, once, at the end. Data without splits of their own have a test split only then, since few
            labels are better learned from; the accuracy in cross-validation is that of new images, too.
        command: the command line to record in run.json.

    Raises NephrosError for arguments, data and weights that can't be used, before anything is written.
    """
    names = None if methods is None else _check_methods(methods)
    if unlabeled is not None and names is not None and "self-training" not in names:
        expected = "a list with self-training, the only method that uses `unlabeled`; else leave that out"
        raise InvalidArgument("methods", ", ".join(names), expected)
    pretrained = open_pretrained(init)
    _check_out(out)
    options = {
        "mask": mask, "id_column": id_column, "class_column": class_column, "patient": patient, "image": image, "axes": axes,
        "level": level, "time_point": time_point, "voxel_size": voxel_size, "min_volume": min_volume,
        "stitch_threshold": stitch_threshold,
    }  # fmt: skip
    with open_data(
        data,
        labels,
        pretrained,
        groups,
        classes,
        options,
        unlabeled=unlabeled,
        size=size,
        data_seed=data_seed,
        subset=subset,
        resplit=resplit,
        white_level=white_level,
        channel=channel,
        draw_test=test,
    ) as opened:
        check_test_split(test, opened.dataset)
        torch_device = devices.resolve_device(device)
        if names is None:
            names = _default_methods(opened.dataset, has_unlabeled=unlabeled is not None)
        return _finetune(opened, pretrained, names, folds, seed, torch_device, out, test, command)


def _finetune(
    opened: OpenedData,
    pretrained: PretrainedModel,
    methods: Sequence[str],
    n_folds: int,
    seed: int,
    torch_device: torch.device,
    out: str | Path | None,
    test: bool,
    command: str,
) -> Finetuning:
    """Compare the methods on opened data, and write the run of the best."""
    start_time = time.perf_counter()
    warnings = opened.dataset.warnings + overlap_warnings(pretrained, opened.dataset)
    dataset = dataclasses.replace(opened.dataset, warnings=warnings)
    _check_usable(methods, dataset)
    start, record = _starting_point(pretrained, dataset, seed)
    problem = make_problem(
        start,
        pretrained,
        dataset,
        n_folds,
        seed,
        torch_device,
        falls_back=opened.has_auto_groups,
    )
    if "self-training" in methods and (warning := _unknown_groups_warning(problem)):
        dataset = dataclasses.replace(dataset, warnings=(*dataset.warnings, warning))
    log_notes(dataset)
    if len(dataset.train) > MANY_IMAGES:
        logger.warning(
            f"{len(dataset.train):,} training images take long to compare methods on: use `subset`, or train on all of them from "
            "the same weights with `nephros.train(RECIPE, init='bundled')`."
        )
    kind = "folds by group" if problem.folds.by_group else "stratified folds"
    logger.info(
        f"{len(dataset.train):,} training images of {dataset.provenance.title}, {len(problem.folds)} {kind}, starting from "
        f"{describe_init(record)}"
    )
    candidates = cross_validate(problem, methods)
    kept = best_candidate(candidates)
    knn = next(candidate for candidate in candidates if candidate.method == "knn")
    if knn.metrics.accuracy > kept.metrics.accuracy_interval.high:
        logger.warning(
            f"In cross-validation knn ({knn.metrics.accuracy:.3f}) is clearly ahead of {kept.method} "
            f"({kept.metrics.accuracy:.3f}), but a run can't hold it: label more images, or compare more `methods`."
        )
    fitted = fit_method(problem, kept.method, np.arange(len(dataset.train)), dataset.val)
    heads = [fit_best_head(problem, train) for train, _ in problem.folds.splits()]
    curve = learning_curve(problem.features, kept.labels, problem.folds, heads, seed)
    info = build_run_info(
        fitted.recipe, dataset, fitted.model, opened.request, torch_device, test, command, SINGLE_PROCESS
    )
    info = dataclasses.replace(
        info,
        init=None if kept.method == "scratch" else record,
        freeze=frozen_stages(kept.method, fitted.model),
        finetuning=finetuning_record(kept, candidates, problem, curve),
        hyperparameters="" if fitted.C is None else f"C {fitted.C:g}",
        chosen_epoch=len(fitted.history) or None,
        training_minutes=(time.perf_counter() - start_time) / 60,
    )
    suspicious = []
    if not no_better_than_largest_class(info, kept.metrics):
        suspicious = suspicious_labels(kept.probabilities, kept.labels, dataset.class_names, dataset.train.names)
    run = write_finetuned_run(out, info, fitted, dataset, kept, suspicious, torch_device, opened.stacks)
    return Finetuning(run, candidates, kept, class_recalls(kept.metrics), curve, suspicious)


def fit_pretrained(
    pretrained: PretrainedModel, dataset: Dataset, methods: str | Sequence[str], seed: int, device: torch.device
) -> FittedMethod:
    """Return the best of `methods` by cross-validation, fitted to the train split, without a run; of one method, that one."""
    names = _check_methods(methods)
    _check_usable(names, dataset)
    start, _ = _starting_point(pretrained, dataset, seed)
    problem = make_problem(start, pretrained, dataset, N_FOLDS, seed, device)
    method = names[0] if len(names) == 1 else best_candidate(cross_validate(problem, names)).method
    return fit_method(problem, method, np.arange(len(dataset.train)), dataset.val)


def _check_methods(methods: str | Sequence[str]) -> list[str]:
    names = [name.strip() for name in methods.split(",") if name.strip()] if isinstance(methods, str) else list(methods)
    for name in names:
        if name not in METHODS:
            raise UnknownName("methods", name, METHODS, kind="method", hint=f"Choose from {', '.join(METHODS)}.")
    if not names or len(set(names)) < len(names):
        raise InvalidArgument("methods", ", ".join(names), "a list of different methods")
    return [name for name in METHODS if name in names]


def _default_methods(dataset: Dataset, has_unlabeled: bool) -> list[str]:
    left_out = [*(["scratch"] if dataset.is_volumetric else []), *([] if has_unlabeled else ["self-training"])]
    return [name for name in METHODS if name not in left_out]


def _check_usable(methods: Sequence[str], dataset: Dataset) -> None:
    """Raise InvalidArgument for self-training without unlabeled images to learn from, and for scratch for volumes."""
    names = ", ".join(methods)
    if dataset.is_volumetric and "scratch" in methods:
        raise InvalidArgument("methods", names, "without scratch, whose network takes images and the data are volumes")
    if "self-training" not in methods:
        return
    if dataset.unlabeled is None:
        expected = "without self-training, since no images without a label are given as `unlabeled`"
        raise InvalidArgument("methods", names, expected)
    if dataset.unlabeled_groups is not None and set(dataset.unlabeled_groups.tolist()) <= reserved_groups(dataset):
        expected = (
            "without self-training, since all images without a label are of groups that validation or test holds out"
        )
        raise InvalidArgument("methods", names, expected)


def _unknown_groups_warning(problem: Problem) -> str:
    """Return a warning where images without a label may be of groups that are held out; empty where none can be."""
    if not (n := problem.n_unknown_groups):
        return ""
    return (
        f"the patients, stacks or other groups of {n:,} images without a label are unknown: if they are of groups that are held "
        "out, self-training has learned from these, and its accuracy is better than on other groups."
    )


def _check_out(out: str | Path | None) -> None:
    """Raise InvalidArgument for a folder that is in use, before the long work rather than after it."""
    root = RUNS_DIR if out is None else Path(out).expanduser()
    if out is not None and root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InvalidArgument("out", root, "a new folder")
    check_writable(root)


def _starting_point(pretrained: PretrainedModel, dataset: Dataset, seed: int) -> tuple[Classifier, InitRecord]:
    """Return the pretrained network for the data, whose last layer is still to be fitted, and the record of it."""
    spec, size = pretrained.input_spec, dataset.image_size
    if dataset.depth != spec.depth:
        kinds = [f"volumes of {depth} slices" if depth else "images" for depth in (dataset.depth, spec.depth)]
        raise IncompatibleError(
            f"`data` has {kinds[0]}, but the weights of {pretrained.source} are for {kinds[1]}: choose other weights as `init`."
        )
    if size != (spec.height, spec.width):
        raise IncompatibleError(
            f"`data` has images of {size[0]}x{size[1]} pixels, but the weights of {pretrained.source} are for "
            f"{spec.height}x{spec.width}: leave out `size`, or resize the images first."
        )
    if dataset.channels != spec.channels:
        if spec.channels != 1:
            raise IncompatibleError(
                f"`data` has {dataset.channels} channels, but the weights of {pretrained.source} are for {spec.channels}: choose "
                "other weights as `init`."
            )
        logger.info("the filters of the first layer are spread over %d channels", dataset.channels)
        inflated = with_channels(pretrained.classifier, dataset.channels)
        pretrained = dataclasses.replace(pretrained, classifier=inflated)
    recipe = make_recipe("head", pretrained.model, len(dataset.train), seed, 1)
    model = init_model(recipe, dataset.train, input_spec(dataset))
    record = start_from(model, pretrained, recipe, dataset)
    return model.eval(), {**record, "head": "fitted"}
