"""A scikit-learn estimator that trains one of the recipes, or fits trained weights to new classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from nephros.data.batches import BatchLoader
from nephros.data.class_names import class_name_fault
from nephros.data.dataset import Dataset
from nephros.data.provenance import Provenance
from nephros.data.row_images import ImageEncoder, VolumeEncoder
from nephros.data.split import Split
from nephros.data.splitting import stratified_split
from nephros.data.subset import stratified_subset
from nephros.device import resolve_device
from nephros.errors import InvalidArgument
from nephros.evaluation.scoring import predict_probabilities
from nephros.exporters.pretrained import open_pretrained
from nephros.inference.model_names import BUNDLED
from nephros.models.classifier import Classifier
from nephros.models.flops import count_multiply_adds
from nephros.models.nephnet3d import VOLUME_NETWORKS
from nephros.models.tta import TTAClassifier
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.recipe_io import override_fields, resolve_recipe
from nephros.training.history import EpochMetrics
from nephros.training.model_init import check_last_batch, init_model, input_spec
from nephros.training.progress import NullCallback
from nephros.training.replicas import count_replicas
from nephros.training.small_data import ADAPTABLE_FIELDS, adapt_recipe
from nephros.training.trainer import Trainer
from nephros.workflows.finetune import fit_pretrained

MAX_MONITORED_IMAGES = 256
"""Training images on which the history's validation figures are measured where the recipe does not need held-out ones."""
HELD_OUT_RATIO = (9, 1)
"""Parts for training and for validation where the recipe goes by validation."""
MAX_REPLICAS = 2
"""Replicas on a CPU, whatever threads it has: batch statistics are those of a replica's part, so that with one replica per thread
`random_state` would mean another result with another `n_jobs`."""


class CellClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of images for scikit-learn: pipelines, grid search, cross-validation and pickles.

    X is images (n, h, w), (n, h, w, 3) or (n, c, h, w), or rows (n, d) of flattened square images; uint8, other integers or
    floating-point numbers, also negative ones. With a recipe of volumes, such as ``nephnet3d``, X is (n, d, h, w).

    Nothing is written to disk; `nephros.train` and `nephros.finetune` do the same work with validation, a report and a folder.
    The networks named nephros give all flips and quarter-turns of an image the same class, so that rows that are not images need
    another recipe, such as ``course-1``.

    Args:
        recipe: name, YAML file or Recipe of a network, trained from random weights; not used if `pretrained`.
        pretrained: fit the bundled model to the classes of y instead, as `nephros.finetune` does; images are resized to 28x28.
        methods: with `pretrained`, the methods of `nephros.finetune` that cross-validation chooses from; the head alone takes
            seconds.
        epochs, batch_size, lr: in place of the recipe's `epochs`, `batch_size` and `optimizer.lr`; None keeps them, except that
            little data gets smaller batches and more passes. Left out with `pretrained`, whose methods have values of their own.
        random_state: seed of weights, order and augmentation; None takes the recipe's. With another number of threads, such as
            `n_jobs` gives, only sums are rounded otherwise.
        device: auto, cpu or cuda.

    Attributes:
        classes_: (classes,) the labels.
        n_features_in_: the second dimension of X.
        network_: the trained network, a `torch.nn.Module`.
        recipe_: the recipe that trained it.
        history_: the metrics of each epoch (`nephros.training.history.EpochMetrics`); empty for a head alone.

    `fit` raises InvalidArgument (a ValueError), which names the parameter, and scikit-learn's own ValueError for what its
    checks refuse, such as NaN or arrays of different lengths.
    """

    def __init__(
        self,
        recipe: str | Recipe = "nephros-fast",
        *,
        pretrained: bool = False,
        methods: str | Sequence[str] = "head",
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        self.recipe, self.pretrained, self.methods = recipe, pretrained, methods
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.random_state, self.device = random_state, device

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Train on images X and labels y (n,).

        `groups` (n,), such as patients, keep images together in the cross-validation of `methods`. Raises InvalidArgument.
        """
        X, y = validate_data(self, X, y, allow_nd=True, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidArgument("y", "1 class", "labels of at least two classes")
        self._check_pretrained()
        images_shape = np.shape(X)[1:]
        if len(images_shape) > 3:
            raise InvalidArgument("X", f"an array of shape {np.shape(X)}", "images or rows of pixels")
        self._is_volumetric = not self.pretrained and self._resolved_recipe().model.network in VOLUME_NETWORKS
        self._shape = images_shape
        self._encoder = VolumeEncoder.fit(X) if self._is_volumetric else ImageEncoder.fit(X)
        device = resolve_device(self.device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if self.pretrained:
                self._fit_pretrained(X, labels, groups, device)
            else:
                self._fit_recipe(X, labels, device)
        self.network_.cpu().eval()
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probabilities of `classes_`, (n, classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, allow_nd=True, reset=False)
        if np.shape(X)[1:] != self._shape:
            raise InvalidArgument(
                "X", f"an array of shape {np.shape(X)}", f"of shape (n, {str(self._shape)[1:]}, as in fit"
            )
        device = resolve_device(self.device)
        images = self._encoder.encode(X, self._size)
        split = Split(images, np.zeros(len(images), dtype=np.int64))
        try:
            model = TTAClassifier(self.network_.to(device), self.recipe_.tta_views)
            return predict_probabilities(model, BatchLoader(split, device), len(self.classes_))
        finally:
            self.network_.cpu()  # so that the estimator can be pickled for a machine without a GPU

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each image, (n,)."""
        indices = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[indices]
        return labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _seed(self, default: int) -> int:
        if self.random_state is None:
            return default
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _fit_pretrained(self, X: NDArray[Any], labels: NDArray[np.int64], groups: Any, device: torch.device) -> None:
        weights = open_pretrained(BUNDLED)
        self._size: tuple[int, int] | None = (weights.input_spec.height, weights.input_spec.width)
        names = None if groups is None else np.asarray(groups).astype(np.str_)
        if names is not None and names.shape != labels.shape:
            raise InvalidArgument("groups", f"an array of shape {names.shape}", "the group of each image")
        train = Split(self._encoder.encode(X, self._size), labels, names)
        dataset = self._dataset(train, train[: min(len(train), MAX_MONITORED_IMAGES)])
        fitted = fit_pretrained(weights, dataset, self.methods, self._seed(0), device)
        self.network_: Classifier = fitted.model
        self.recipe_: Recipe = fitted.recipe
        self.history_: list[EpochMetrics] = fitted.history

    def _fit_recipe(self, X: NDArray[Any], labels: NDArray[np.int64], device: torch.device) -> None:
        self._size = None
        images = self._encoder.encode(X)
        recipe = self._resolved_recipe()
        train = val = Split(images, labels)
        if recipe.checkpoint == "best" or recipe.early_stopping_patience or recipe.schedule.name == "plateau":
            if (counts := np.bincount(labels)).min() < 2:
                label, kept_by = self.classes_[counts.argmin()], f"{recipe.name} holds images out to choose the epoch"
                raise InvalidArgument("y", f"1 image of class {label}", f"at least 2 of each class, since {kept_by}")
            held_out = stratified_split(labels, recipe.seed, (*HELD_OUT_RATIO, 0)) == 1
            train, val = train[~held_out], train[held_out]
        else:
            val = stratified_subset(train, min(len(train), MAX_MONITORED_IMAGES), recipe.seed)
        dataset = self._dataset(train, val)
        given = {"batch_size"} if self.batch_size is not None else set()
        adaptable = [field for field in ADAPTABLE_FIELDS if field not in given and self._is_preset()]
        recipe, _ = adapt_recipe(recipe, len(train), adaptable)
        model = init_model(recipe, train, input_spec(dataset))
        check_last_batch(recipe, dataset, model)
        train_batches = BatchLoader(train, device, channels_last=recipe.channels_last)
        val_batches = BatchLoader(val, device, channels_last=recipe.channels_last)
        cost = count_multiply_adds(model.network, input_spec(dataset))
        replicas = count_replicas(recipe, len(train), cost, device, max_replicas=MAX_REPLICAS)
        trainer = Trainer(recipe, model, train_batches, val_batches, dataset.class_names, replicas=replicas)
        trainer.run(None, NullCallback())
        weights, _ = trainer.final_weights()
        model.load_state_dict(weights)
        self.network_, self.recipe_, self.history_ = model, recipe, trainer.history

    def _check_pretrained(self) -> None:
        if not isinstance(self.pretrained, bool | np.bool_):
            raise InvalidArgument("pretrained", self.pretrained, "True or False")
        for parameter in ("epochs", "batch_size", "lr") if self.pretrained else ():
            if (value := getattr(self, parameter)) is not None:
                expected = "left out with `pretrained`, whose methods have values of their own"
                raise InvalidArgument(parameter, value, expected)

    def _is_preset(self) -> bool:
        return isinstance(self.recipe, str) and self.recipe in RECIPES

    def _resolved_recipe(self) -> Recipe:
        overrides = {"epochs": self.epochs, "batch_size": self.batch_size, "optimizer__lr": self.lr}
        recipe = resolve_recipe(self.recipe)
        if recipe.is_classical or recipe.distillation_weight:
            raise InvalidArgument("recipe", recipe.name, "a network's recipe, without distillation")
        recipe = override_fields(recipe, {key: value for key, value in overrides.items() if value is not None})
        return dataclasses.replace(recipe, seed=self._seed(recipe.seed))

    def _dataset(self, train: Split, val: Split) -> Dataset:
        names = tuple(map(str, self.classes_.tolist()))
        if class_name_fault(names):  # such as an empty text: they serve messages only
            names = tuple(f"class {label}" for label in range(len(self.classes_)))
        provenance = Provenance("arrays", "own", "", "")
        return Dataset(train, val, train[:0], names, provenance, is_volumetric=self._is_volumetric)
