"""A network of volumes from the stack to the table, and what depth is worth to it."""

from __future__ import annotations

import csv
import dataclasses
import errno
import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.cli import main
from nephros.data.dataset import Dataset
from nephros.data.images.transforms import max_project, resize_images
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.microscopy.synthetic import SyntheticStack
from nephros.presets import RECIPES
from nephros.recipe import AugmentConfig, LRScheduleConfig, OptimizerConfig, Recipe
from tests.depth_pairs import CLASS_NAMES, SHAPE, depth_pairs

TINY = dataclasses.replace(
    RECIPES["nephnet3d"],
    model=dataclasses.replace(RECIPES["nephnet3d"].model, base_channels=2, dropout=0.0),
    epochs=1,
    batch_size=32,
)


def run_cli(*argv: str) -> int:
    with pytest.raises(SystemExit) as exc_info:
        main(list(argv))
    return int(exc_info.value.code or 0)


@pytest.fixture
def tissue(tmp_path: Path) -> Path:
    pixels, labels = zip(*SyntheticStack((12, 100, 90)).slices(), strict=True)
    tifffile.imwrite(
        tmp_path / "stack.ome.tif",
        np.stack(pixels),
        photometric="minisblack",
        metadata={"axes": "ZYX", "PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5},
    )
    tifffile.imwrite(tmp_path / "mask.tif", np.stack(labels).astype(np.uint16), photometric="minisblack")
    return tmp_path


def test_prepared_volumes_have_the_prepared_images_as_their_maximum(tissue: Path) -> None:
    stack, mask = str(tissue / "stack.ome.tif"), str(tissue / "mask.tif")
    assert run_cli("data", "prepare", stack, "--mask", mask, "--out", str(tissue / "v.npz"), "--volumes") == 0
    images = nephros.prepare(stack, tissue / "i.npz", mask=mask)
    with np.load(tissue / "v.npz", allow_pickle=False) as arrays:
        volumes, ids = arrays["volumes"], arrays["ids"]
        assert "images" not in arrays
    assert (volumes.dtype, volumes.shape) == (np.dtype(np.uint8), (len(images.ids), 7, 32, 32))
    assert ids.tolist() == images.ids.tolist()
    assert np.array_equal(resize_images(max_project(volumes), 28), images.images)
    metadata = json.loads((tissue / "v.json").read_text())
    assert metadata["crop_shape_zyx"] == [7, 32, 32]
    assert len((tissue / "v.csv").read_text().splitlines()) == 1 + len(ids)


def test_volumes_of_several_stacks_keep_their_order(tissue: Path) -> None:
    (tissue / "other.ome.tif").write_bytes((tissue / "stack.ome.tif").read_bytes())
    for name in ("stack", "other"):
        (tissue / f"{name}_mask.tif").write_bytes((tissue / "mask.tif").read_bytes())
    paths = [tissue / "stack.ome.tif", tissue / "other.ome.tif"]
    both = nephros.prepare(paths, tissue / "v.npz", mask="{stem}_mask.tif", volumes=True)
    n = len(both.ids) // 2
    with np.load(tissue / "v.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["volumes"][:n], arrays["volumes"][n:])
        assert np.array_equal(arrays["volumes"], both.images)
    assert both.stack.tolist() == ["stack"] * n + ["other"] * n


def test_where_mapped_files_are_kept_they_go_with_the_images(tissue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows doesn't remove the files of arrays that still refer to them."""
    unlink, is_mapped = os.unlink, True

    def unlink_on_windows(path: Any, **options: Any) -> None:
        if is_mapped and str(path).endswith("volumes.npy"):
            raise PermissionError(errno.EACCES, "Access is denied", path)
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", unlink_on_windows)
    prepared = nephros.prepare(tissue / "stack.ome.tif", tissue / "v.npz", mask=tissue / "mask.tif", volumes=True)
    assert prepared.images.shape == (len(prepared.ids), 7, 32, 32)
    assert len(list(tissue.glob(".v.npz.*"))) == 1
    is_mapped = False
    del prepared
    gc.collect()
    assert not list(tissue.glob(".v.npz.*"))


@pytest.fixture(scope="module")
def crops_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on noise of the size of prepared crops, which any stack's nuclei have."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "cells.npz", volumes=rng.integers(0, 99, (80, 7, 32, 32), dtype=np.uint8), labels=np.arange(80) % 2
    )
    return nephros.train(TINY, folder / "cells.npz", out=folder / "run", test=True).root


@pytest.mark.slow
@pytest.mark.usefixtures("reports_without_figures")
def test_a_stack_is_predicted_with_its_nuclei_as_volumes(crops_run: Path, tissue: Path) -> None:
    stack, mask = str(tissue / "stack.ome.tif"), str(tissue / "mask.tif")
    prepared = nephros.prepare(stack, tissue / "v.npz", mask=mask, volumes=True)
    clf = nephros.load_classifier(nephros.export(crops_run, force=True))
    assert clf.input_shape == (7, 32, 32)
    of_stack = nephros.predict(stack, clf, mask=mask)
    of_npz = nephros.predict(tissue / "v.npz", clf)
    assert [source.index for source in of_stack.sources] == prepared.ids.tolist()
    np.testing.assert_allclose(of_stack.probabilities, of_npz.probabilities, atol=1e-5)
    np.testing.assert_allclose(clf.predict_proba(prepared.images), of_npz.probabilities, atol=1e-5)
    out = tissue / "table.csv"
    assert run_cli("predict", stack, "--mask", mask, "--model", str(crops_run), "--out", str(out)) == 0
    with out.open() as file:
        assert len(list(csv.DictReader(file))) == len(prepared.ids)


@pytest.mark.slow
@pytest.mark.usefixtures("reports_without_figures")
def test_what_a_model_of_volumes_can_not_take_is_an_error_row(crops_run: Path, tmp_path: Path) -> None:
    from PIL import Image

    clf = nephros.load_classifier(crops_run)
    Image.new("L", (28, 28), 9).save(tmp_path / "cell.png")
    np.savez(tmp_path / "images.npz", images=np.zeros((3, 28, 28), np.uint8))
    np.savez(tmp_path / "other.npz", volumes=np.zeros((3, 9, 32, 32), np.uint8))
    np.savez(tmp_path / "deep.npz", volumes=np.full((3, 7, 32, 32), 900, np.uint16))
    for name, part in (
        ("cell.png", "takes volumes of 7 slices"),
        ("images.npz", "holds images"),
        ("other.npz", "9x32x32"),
        ("deep.npz", "white_level"),
    ):
        predictions = nephros.predict(tmp_path / name, clf)
        assert list(predictions.errors) == [0]
        assert part in predictions.errors[0]
    assert not nephros.predict(tmp_path / "deep.npz", clf, white_level=4095).errors
    np.savez(tmp_path / "v.npz", volumes=np.zeros((3, 7, 32, 32), np.uint8))
    assert "save the maximum" in nephros.predict(tmp_path / "v.npz").errors[0]
    for wrong in (np.zeros((2, 28, 28)), np.zeros((2, 9, 32, 32)), np.zeros((2, 32, 32, 7))):
        with pytest.raises(InvalidArgument) as exc_info:
            clf.predict_proba(wrong)
        assert exc_info.value.parameter == "images"
    with pytest.raises(InvalidArgument) as exc_info:
        nephros.export(crops_run, force=True, int8=True)
    assert exc_info.value.parameter == "int8"
    with pytest.raises(IncompatibleError, match="the page"):
        nephros.serve(crops_run, port=0)


@pytest.mark.slow
def test_a_run_of_volumes_goes_all_the_way(tmp_path: Path) -> None:
    volumes, labels = depth_pairs(200)
    names = np.array(CLASS_NAMES)
    np.savez_compressed(tmp_path / "pairs.npz", volumes=volumes, labels=names[labels], class_names=names)
    run = nephros.train(TINY, tmp_path / "pairs.npz", out=tmp_path / "run", test=True)
    assert json.loads((run.root / "run.json").read_text())["input_spec"]["depth"] == SHAPE[0]
    page = (run.root / "report.html").read_text()
    assert f"volumes of {SHAPE[0]} slices" in page
    assert "row by row" in page
    assert nephros.evaluate(run.root, "val").probabilities.shape == (20, 2)
    with pytest.raises(IncompatibleError):
        nephros.evaluate(run.root, "val", data=Dataset.from_arrays(volumes.max(axis=1), names[labels]))
    exported = [nephros.export(run.root, kind, force=True) for kind in ("onnx", "safetensors")]
    assert "6 x 16 x 16 (slices, height, width)" in exported[0].with_suffix(".card.md").read_text()
    probabilities = [nephros.load_classifier(path).predict_proba(volumes[:9]) for path in (run.root, *exported)]
    for other in probabilities[1:]:
        np.testing.assert_allclose(other, probabilities[0], atol=1e-4)
    for start in (run.root, exported[1]):
        tuned = nephros.finetune(
            volumes[:60],
            labels[:60],
            init=start,
            methods="head,last-stage",
            folds=2,
            out=tmp_path / f"tuned-{start.stem}",
        )
        assert tuned.run.root.joinpath("weights.safetensors").is_file()
    with pytest.raises(InvalidArgument) as exc_info:
        nephros.finetune(volumes[:60], labels[:60], init=run.root, methods="scratch", folds=2)
    assert exc_info.value.parameter == "methods"
    warm = nephros.train(TINY, tmp_path / "pairs.npz", out=tmp_path / "warm", init=run.root)
    assert warm.root.joinpath("report.html").is_file()


@pytest.mark.slow
def test_scikit_learns_classifier_takes_volumes() -> None:
    volumes, labels = depth_pairs(48)
    clf = nephros.CellClassifier(TINY, random_state=0).fit(volumes, labels)
    assert clf.predict_proba(volumes[:5]).shape == (5, 2)
    with pytest.raises(InvalidArgument):
        nephros.CellClassifier(TINY).fit(volumes[:, 0], labels)


def _small(recipe: Recipe) -> Recipe:
    """Return a recipe for a few hundred small images or volumes."""
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, base_channels=8, dropout=0.0),
        optimizer=OptimizerConfig("adam", lr=3e-3),
        schedule=LRScheduleConfig(),
        augment=AugmentConfig(),
        epochs=5,
        batch_size=32,
    )


def _accuracy(recipe: Recipe, data: Dataset, out: Path) -> float:
    run = nephros.train(recipe, data, out=out, test=True)
    return nephros.evaluate(run.root, "test", data=data).metrics.accuracy


@pytest.mark.slow
@pytest.mark.usefixtures("reports_without_figures")
def test_where_depth_alone_tells_classes_apart_volumes_beat_their_projection(tmp_path: Path) -> None:
    volumes, labels = depth_pairs(800)
    names = [CLASS_NAMES[label] for label in labels]
    deep, flat = (_small(RECIPES[name]) for name in ("nephnet3d", "nephnet2d"))
    accuracy_3d = _accuracy(deep, Dataset.from_arrays(volumes, names, volumes=True), tmp_path / "3d")
    accuracy_2d = _accuracy(flat, Dataset.from_arrays(volumes.max(axis=1), names), tmp_path / "2d")
    assert accuracy_2d < 0.65, accuracy_3d
    assert accuracy_3d > accuracy_2d + 0.25
