"""The named recipes. They are data alone: a single training loop runs them all."""

from __future__ import annotations

from dataclasses import replace

from nephros.recipe import (
    AugmentConfig,
    ClassicalConfig,
    KNNConfig,
    LRScheduleConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    SVMConfig,
)


def _course_recipes() -> list[Recipe]:
    """Return the rows of the course report's Table 1: plain SGD, batches of 223, inputs in [-1, 1], last epoch's weights."""
    two_convs = ModelConfig(network="course", base_channels=10, depth=2, hidden=(100, 50))
    wide_head = replace(two_convs, hidden=(300, 150))
    one_conv = replace(two_convs, depth=1)
    rows = [
        (two_convs, 0.01, 5),
        (wide_head, 0.01, 5),
        (two_convs, 0.1, 5),
        (one_conv, 0.01, 5),
        (two_convs, 0.001, 5),
        (two_convs, 0.01, 75),
        (two_convs, 0.01, 150),
    ]
    return [
        Recipe(
            name=f"course-{row}",
            source=f"course report, Table 1, row {row}",
            model=model,
            optimizer=OptimizerConfig(name="sgd", lr=lr),
            epochs=epochs,
            batch_size=223,
        )
        for row, (model, lr, epochs) in enumerate(rows, start=1)
    ]


_POSTER = Recipe(
    name="poster",
    source="poster, with the tuned values of its authors' repository",
    model=ModelConfig(network="poster", base_channels=8, dropout=0.5),
    optimizer=OptimizerConfig(name="sgd", lr=0.0253366, momentum=0.8, nesterov=True, weight_decay=0.0046684),
    schedule=LRScheduleConfig(name="plateau", patience=5, factor=0.29),
    epochs=100,
    batch_size=128,
    last_batch="balanced",
    normalize="zero_one",
    amp="auto",
)

_POSTER_PRINTED = replace(
    _POSTER,
    name="poster-printed",
    source="poster, with the values printed on it",
    optimizer=OptimizerConfig(name="sgd", lr=0.025, momentum=0.8, weight_decay=0.004),
)

_NEPHNET2D = Recipe(
    name="nephnet2d",
    source="NephNet2D, Woloshuk et al. 2021, config_2d.json of its repository",
    model=ModelConfig(network="nephnet2d", base_channels=32, dropout=0.5),
    optimizer=OptimizerConfig(name="sgd", lr=0.0004144, momentum=0.9, nesterov=True, weight_decay=0.0058),
    schedule=LRScheduleConfig(name="step", step_epochs=15, factor=0.489),
    augment=AugmentConfig(flips="horizontal", rotate=5.0, translate=0.05, scale=0.05, interpolation="bilinear"),
    epochs=500,
    batch_size=16,
    last_batch="balanced",
    normalize="zero_one",
)

_NEPHNET3D = Recipe(
    name="nephnet3d",
    source="NephNet3D, Woloshuk et al. 2021, config_hdf5.json of its repository, in the width of its class; takes volumes",
    model=ModelConfig(network="nephnet3d", base_channels=32, dropout=0.5),
    optimizer=OptimizerConfig(name="sgd", lr=0.016, momentum=0.8, nesterov=True, weight_decay=0.006),
    schedule=LRScheduleConfig(name="plateau", patience=8, factor=0.29),
    # As its loader: flips along all axes, turns up to 25 degrees, and, instead of rare larger ones, shifts of 2 voxels.
    augment=AugmentConfig(flips="dihedral-depth", shift=2, rotate=25.0, interpolation="bilinear"),
    epochs=500,
    batch_size=256,
    last_batch="balanced",
    normalize="zero_one",
    channels_last=False,
)

_STRONG_BASELINE = Recipe(
    name="strong-baseline",
    source="jerrykaplan/tissuemnist-strong-baseline",
    model=ModelConfig(network="resnet18", base_channels=64),
    optimizer=OptimizerConfig(name="adam", lr=1e-3),
    schedule=LRScheduleConfig(name="step", milestones=(0.5, 0.75), factor=0.1),
    augment=AugmentConfig(flips="horizontal", shift=2, rotate=15.0),
    epochs=40,
    batch_size=128,
    last_batch="balanced",
)


def _medmnist_recipe(network: str) -> Recipe:
    """Return MedMNIST v2's recipe for its ResNets: no augmentation, best validation AUC."""
    return replace(
        _STRONG_BASELINE,
        name=f"medmnist-{network}",
        source="MedMNIST v2, its own recipe",
        model=ModelConfig(network=network, base_channels=64),
        augment=AugmentConfig(),
        epochs=100,
        checkpoint="best",
        metric="val_auc",
    )


_COMPACT = Recipe(
    name="compact",
    source="ours, the start of the search for nephros: a small residual network that suits CPUs and GPUs",
    model=ModelConfig(network="compact", base_channels=32, depth=2),
    optimizer=OptimizerConfig(
        name="sgd", lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4, decay_norm_and_bias=False
    ),
    schedule=LRScheduleConfig(name="linear", warmup=0.2),
    # A nucleus has no upright orientation: all eight flips and quarter-turns show the same cell.
    augment=AugmentConfig(flips="dihedral", shift=2),
    epochs=5,
    batch_size=256,
    last_batch="balanced",
    normalize="dataset",
    amp="auto",
)

_NEPHROS = replace(
    _COMPACT,
    name="nephros",
    source="ours: D4-equivariant, trained with Muon",
    # All eight orientations of a nucleus give the same prediction (gains of that and of Muon: docs/results/ideas.md).
    model=ModelConfig(network="equivariant", base_channels=64, depth=1),
    optimizer=OptimizerConfig(
        name="muon", lr=0.04, momentum=0.9, aux_lr=0.1, weight_decay=5e-4, decay_norm_and_bias=False
    ),
    augment=AugmentConfig(shift=2),
    epochs=30,
    tta_views=5,
    amp="native",
)

# On all images half the learning rate was better for both seeds (third-0.02 in docs/results/ideas.md); nephros predates that.
_LOWER_LR = replace(_NEPHROS.optimizer, lr=0.02)

_NEPHROS_DISTILLED = replace(
    _NEPHROS,
    name="nephros-distilled",
    source="ours: nephros, distilled from runs of nephros",
    optimizer=_LOWER_LR,
    # The teachers' mean probabilities carry more information than labels of which about a sixth look wrong (Hinton et al. 2015).
    distillation_weight=0.9,
)

_NEPHROS_FAST = replace(
    _NEPHROS,
    name="nephros-fast",
    source="ours: nephros with half its width, in twelve epochs",
    model=replace(_NEPHROS.model, base_channels=32),
    epochs=12,
)

_NEPHROS_LARGE = replace(
    _NEPHROS_DISTILLED,
    name="nephros-large",
    source="ours: nephros-distilled at twice its width, four times the work",
    model=replace(_NEPHROS.model, base_channels=128),
)

_KNN = Recipe(
    name="knn",
    source="classical baseline of the poster: exact nearest neighbors",
    model=ModelConfig(network="knn"),
    classical=ClassicalConfig(features=("pixels", "pca")),
    knn=KNNConfig(distance=("euclidean", "cosine"), n_neighbors=(1, 3, 5, 10, 20, 50, 100)),
)

_SVM_LINEAR = Recipe(
    name="svm-linear",
    source="classical baseline of the poster: a linear support vector machine",
    model=ModelConfig(network="svm-linear"),
    classical=ClassicalConfig(features=("pixels", "pca")),
    svm=SVMConfig(C=(0.001, 0.01, 0.1)),
)

_SVM_RBF = Recipe(
    name="svm-rbf",
    source="classical baseline of the poster: an RBF kernel approximated by Nystroem's method, on all images",
    model=ModelConfig(network="svm-rbf"),
    classical=ClassicalConfig(features=("pixels", "pca")),
    svm=SVMConfig(C=(1.0, 10.0, 100.0), gamma=(0.3, 1.0, 3.0), n_landmarks=1000),
)

_SVM_RBF_EXACT = replace(
    _SVM_RBF,
    name="svm-rbf-exact",
    source="classical baseline of the poster: an exact RBF kernel, on the 20,000 images to which it scales",
    # On principal components alone: on pixels each combination takes minutes, with sixteen times as many products per distance.
    classical=ClassicalConfig(features=("pca",), max_images=20_000),
    svm=replace(_SVM_RBF.svm, n_landmarks=0),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in [
        _NEPHROS,
        _NEPHROS_FAST,
        _NEPHROS_LARGE,
        _NEPHROS_DISTILLED,
        _COMPACT,
        *_course_recipes(),
        _POSTER,
        _POSTER_PRINTED,
        _NEPHNET2D,
        _NEPHNET3D,
        _medmnist_recipe("resnet18"),
        _medmnist_recipe("resnet50"),
        _STRONG_BASELINE,
        _KNN,
        _SVM_LINEAR,
        _SVM_RBF,
        _SVM_RBF_EXACT,
    ]
}
"""Every named recipe; the first is the default."""

NETWORK_RECIPES: dict[str, Recipe] = {name: recipe for name, recipe in RECIPES.items() if not recipe.is_classical}
"""The named recipes that train a network."""
