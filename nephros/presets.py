"""The named recipes. Each is data: the one training loop runs them all."""

from __future__ import annotations

from dataclasses import replace

from nephros.recipe import Recipe
from nephros.recipe_parts import Augment, Classic, Model, Optimizer, Schedule


def _course() -> list[Recipe]:
    """The seven rows of the course report's Table 1: plain SGD, batch 223, inputs in [-1, 1], last-epoch weights."""
    two = Model(network="course", features=10, depth=2, hidden=(100, 50))
    wide = replace(two, hidden=(300, 150))
    one = replace(two, depth=1)
    rows = [
        (two, 0.01, 5),
        (wide, 0.01, 5),
        (two, 0.1, 5),
        (one, 0.01, 5),
        (two, 0.001, 5),
        (two, 0.01, 75),
        (two, 0.01, 150),
    ]
    return [
        Recipe(
            name=f"course-{row}",
            source=f"course report, Table 1, row {row}",
            model=model,
            optimizer=Optimizer(name="sgd", lr=lr),
            epochs=epochs,
            batch_size=223,
        )
        for row, (model, lr, epochs) in enumerate(rows, start=1)
    ]


_POSTER = Recipe(
    name="poster",
    source="poster, with the tuned values of its authors' repository",
    model=Model(network="poster", features=8, dropout=0.5),
    optimizer=Optimizer(name="sgd", lr=0.0253366, momentum=0.8, nesterov=True, weight_decay=0.0046684),
    schedule=Schedule(name="plateau", patience=5, factor=0.29),
    epochs=100,
    batch_size=128,
    last_batch="even",
    normalise="unit",
    amp="auto",
)

_POSTER_PRINTED = replace(
    _POSTER,
    name="poster-printed",
    source="poster, with the values that it prints",
    optimizer=Optimizer(name="sgd", lr=0.025, momentum=0.8, weight_decay=0.004),
)

_NEPHNET2D = Recipe(
    name="nephnet2d",
    source="NephNet2D, Woloshuk et al. 2021, its repository's config_2d.json",
    model=Model(network="nephnet2d", features=32, dropout=0.5),
    optimizer=Optimizer(name="sgd", lr=0.0004144, momentum=0.9, nesterov=True, weight_decay=0.0058),
    schedule=Schedule(name="step", step_epochs=15, factor=0.489),
    augment=Augment(flips="horizontal", rotate=5.0, translate=0.05, scale=0.05, interpolation="bilinear"),
    epochs=500,
    batch_size=16,
    last_batch="even",
    normalise="unit",
)

_STRONG_BASELINE = Recipe(
    name="strong-baseline",
    source="jerrykaplan/tissuemnist-strong-baseline",
    model=Model(network="resnet18", features=64),
    optimizer=Optimizer(name="adam", lr=1e-3),
    schedule=Schedule(name="step", milestones=(0.5, 0.75), factor=0.1),
    augment=Augment(flips="horizontal", shift=2, rotate=15.0),
    epochs=40,
    batch_size=128,
    last_batch="even",
)


def _medmnist(network: str) -> Recipe:
    """MedMNIST v2's own recipe for its ResNets: no augmentation, best validation AUC."""
    return replace(
        _STRONG_BASELINE,
        name=f"medmnist-{network}",
        source="MedMNIST v2, its own recipe",
        model=Model(network=network, features=64),
        augment=Augment(),
        epochs=100,
        checkpoint="best",
        metric="val_auc",
    )


_COMPACT = Recipe(
    name="compact",
    source="ours, where the search for nephros began: a small residual net shaped for CPUs and GPUs alike",
    model=Model(network="compact", features=32, depth=2),
    optimizer=Optimizer(name="sgd", lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4, decay_all=False),
    schedule=Schedule(name="onecycle", warmup=0.2),
    # A nucleus has no up: all eight flips and quarter-turns are the same cell.
    augment=Augment(flips="dihedral", shift=2),
    epochs=5,
    batch_size=256,
    last_batch="even",
    normalise="data",
    amp="auto",
)

_NEPHROS = replace(
    _COMPACT,
    name="nephros",
    source="ours: turns with the image, stepped by Muon",
    # All eight views of a nucleus give one answer by construction (what that and Muon buy: results/speedrun.md).
    model=Model(network="equivariant", features=64, depth=1),
    optimizer=Optimizer(name="muon", lr=0.04, momentum=0.9, rest_lr=0.1, weight_decay=5e-4, decay_all=False),
    augment=Augment(shift=2),
    epochs=30,
    views=5,
    amp="native",
)

# On all images half of the rate gained on both seeds (third-0.02 in results/speedrun.md), after nephros had had its runs.
_LOWER_RATE = replace(_NEPHROS.optimizer, lr=0.02)

_NEPHROS_DISTILLED = replace(
    _NEPHROS,
    name="nephros-distilled",
    source="ours: nephros, taught by runs of nephros (--teachers RUN,RUN)",
    optimizer=_LOWER_RATE,
    # Their mean answers say more than labels of which about a sixth look wrong (Hinton et al. 2015).
    teacher_share=0.9,
)

_NEPHROS_FAST = replace(
    _NEPHROS,
    name="nephros-fast",
    source="ours: nephros with half of its width, in twelve epochs",
    model=replace(_NEPHROS.model, features=32),
    epochs=12,
)

_NEPHROS_LARGE = replace(
    _NEPHROS_DISTILLED,
    name="nephros-large",
    source="ours: nephros-distilled with half as much width again, more than twice the work",
    model=replace(_NEPHROS.model, features=96),
)

_KNN = Recipe(
    name="knn",
    source="classical baseline that the poster names: exact nearest neighbours",
    model=Model(network="knn"),
    classic=Classic(
        features=("pixels", "pca"), distance=("euclidean", "cosine"), neighbours=(1, 3, 5, 10, 20, 50, 100)
    ),
)

_SVM_LINEAR = Recipe(
    name="svm-linear",
    source="classical baseline that the poster names: a linear support vector machine",
    model=Model(network="svm-linear"),
    classic=Classic(features=("pixels", "pca"), cost=(0.001, 0.01, 0.1)),
)

_SVM_RBF = Recipe(
    name="svm-rbf",
    source="classical baseline that the poster names: its kernel approximated by Nystroem's method, on all images",
    model=Model(network="svm-rbf"),
    classic=Classic(features=("pixels", "pca"), cost=(1.0, 10.0, 100.0), gamma=(0.3, 1.0, 3.0), landmarks=1000),
)

_SVM_RBF_EXACT = replace(
    _SVM_RBF,
    name="svm-rbf-exact",
    source="classical baseline that the poster names: its kernel exact, on 20,000 images, as far as that scales",
    # Of components alone: on pixels each combination takes minutes, sixteen times as many products a distance.
    classic=Classic(features=("pca",), cost=(1.0, 10.0, 100.0), gamma=(0.3, 1.0, 3.0), images=20_000),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in [
        _NEPHROS,
        _NEPHROS_FAST,
        _NEPHROS_LARGE,
        _NEPHROS_DISTILLED,
        _COMPACT,
        *_course(),
        _POSTER,
        _POSTER_PRINTED,
        _NEPHNET2D,
        _medmnist("resnet18"),
        _medmnist("resnet50"),
        _STRONG_BASELINE,
        _KNN,
        _SVM_LINEAR,
        _SVM_RBF,
        _SVM_RBF_EXACT,
    ]
}
"""Every named recipe; the first is the default."""

NETWORKS: dict[str, Recipe] = {name: recipe for name, recipe in RECIPES.items() if not recipe.classical}
"""Those that train a network."""
