"""An image becomes the same cell in training, evaluation, prediction and the server, and a cell does not depend on the others."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

import nephros
from nephros.cli import main
from nephros.data.folders.images import read_folder_images
from nephros.data.folders.scan import scan_class_folders
from nephros.data.images.input_conversion import InputConversion
from nephros.data.load import data_request, load_request
from nephros.data.split import SPLITS
from nephros.errors import FileError, InvalidArgument
from nephros.exporters.loading import load_classifier
from nephros.exporters.packaging import build_export_bundle
from nephros.inference.reader import CellReader
from nephros.runs import RunFolder
from nephros.server.app import create_app
from nephros.server.limits import BATCH_LIMITS, STACK_LIMITS, RequestLimits
from nephros.server.openapi import version_response
from nephros.server.service import Service
from tests.conftest import square_images
from tests.server.call_app import call_app
from tests.server.live_server import multipart_body
from tests.workflows.test_train import QUICK

pytestmark = pytest.mark.usefixtures("reports_without_figures")


def oblong(seed: int, kind: int, scale: int = 1) -> NDArray[np.uint16]:
    """Return a cell in its surroundings, 14 x 30 pixels: a disc or a ring, up to 255 times `scale`."""
    rng = np.random.default_rng([seed, kind])
    distance = np.hypot(*np.mgrid[-7:7, -15:15]) + rng.normal(0, 0.3)
    shape = np.clip(1.2 - distance / 5, 0, 1) if kind == 0 else np.exp(-(((distance - 5) / 1.5) ** 2))
    pixels = 40 + 130 * shape + rng.normal(0, 10, shape.shape)
    oblong_cell: NDArray[np.uint16] = np.clip(pixels * scale, 0, 255 * scale).astype(np.uint16)
    return oblong_cell


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


def indexed(pixels: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(pixels)
    image.putpalette(np.stack([np.zeros(256), np.zeros(256), np.arange(256)], axis=1).astype(np.uint8).tobytes())
    return image


def in_plane(pixels: NDArray[Any], plane: int) -> NDArray[Any]:
    color = np.zeros((*pixels.shape, 3), dtype=pixels.dtype)
    color[..., plane] = pixels
    return color


Writer = Callable[[Path, NDArray[np.uint16]], object]
"""Writes 12-bit pixels to a path without a suffix."""
WRITERS: dict[str, Writer] = {
    "8-bit": lambda path, p: Image.fromarray((p // 16).astype(np.uint8)).save(f"{path}.png"),
    "16-bit": lambda path, p: Image.fromarray(p).save(f"{path}.png"),
    "16-bit color": lambda path, p: Path(f"{path}.png").write_bytes(
        imagecodecs.png_encode(np.dstack([p, p // 2, p // 3]))
    ),
    "16-bit TIFF color": lambda path, p: tifffile.imwrite(f"{path}.tif", np.dstack([p] * 3), photometric="rgb"),
    "one 16-bit plane": lambda path, p: tifffile.imwrite(f"{path}.tif", in_plane(p, 2), photometric="rgb"),
    "floats": lambda path, p: tifffile.imwrite(f"{path}.tif", p.astype(np.float32) / 4095),
    "inverted": lambda path, p: tifffile.imwrite(f"{path}.tif", p, photometric="miniswhite"),
    "look-up table": lambda path, p: indexed((p // 16).astype(np.uint8)).save(f"{path}.png"),
    "turned": lambda path, p: Image.fromarray((p // 16).astype(np.uint8)).save(f"{path}.jpg", exif=exif(6)),
    "compressed": lambda path, p: tifffile.imwrite(f"{path}.tif", p, compression="jpegxl"),
}


def fill(root: Path, write: Writer, n: int = 4) -> Path:
    for kind, name in enumerate(("disc", "ring")):
        (root / name).mkdir(parents=True)
        for index in range(n):
            write(root / name / f"{index:02}", oblong(index, kind, 16))
    return root


@pytest.mark.parametrize("size", [28, None])
@pytest.mark.parametrize("kind", WRITERS)
def test_training_and_prediction_make_the_same_cells(kind: str, size: int | None, tmp_path: Path) -> None:
    root = fill(tmp_path / "cells", WRITERS[kind])
    files = scan_class_folders(root, "auto").files
    trained = read_folder_images(root, files, size=size)
    channels = 1 if trained.images.ndim == 3 else 3
    shape = (channels, *trained.images.shape[1:3])
    for paths in ([file.path for file in files], [files[3].path]):  # all together, and one alone
        reader = CellReader(paths, shape, conversion=trained.conversion)
        cells = {
            row: cell for rows, batch in reader.iter_batches() for row, cell in zip(rows.tolist(), batch, strict=True)
        }
        assert not reader.errors
        for row, path in enumerate(paths):
            index = [file.path for file in files].index(path)
            assert np.array_equal(cells[row], trained.images[index])


ARRAYS: dict[str, Callable[[NDArray[np.uint16]], NDArray[Any]]] = {
    "8-bit": lambda p: (p // 16).astype(np.uint8),
    "16-bit": lambda p: p,
    "32-bit": lambda p: p.astype(np.int32),
    "8 bits in 64": lambda p: (p // 16).astype(np.int64),
    "from 0 to 1": lambda p: p / 4095,
    "from 0 to 255": lambda p: (p / 16).astype(np.float32),
    "counts": lambda p: p.astype(np.float32),
    "truth values": lambda p: p > 1500,
    "channels first": lambda p: np.stack([p] * 3, axis=1),
    "channels last": lambda p: p[..., None],
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_training_and_prediction_make_the_same_cells_of_an_array(kind: str, tmp_path: Path) -> None:
    cells = np.stack([oblong(index, index % 2, 16) for index in range(12)])
    labels = np.arange(12) % 2
    images = ARRAYS[kind](cells)
    arrays: dict[str, Any] = {f"{split}_images": images for split in SPLITS}
    arrays |= {f"{split}_labels": labels for split in SPLITS}
    np.savez(tmp_path / "cells.npz", **arrays)
    np.savez(tmp_path / "one.npz", images=images[5:6])
    dataset = nephros.load_dataset(tmp_path / "cells.npz")
    shape = (dataset.channels, *dataset.image_size)
    all_images = np.concatenate([split.images for _, split in dataset.splits()])
    for name, expected in (("cells.npz", all_images), ("one.npz", dataset.val.images[5:6])):
        reader = CellReader([tmp_path / name], shape, conversion=dataset.input_conversion)
        assert np.array_equal(np.concatenate([batch for _, batch in reader.iter_batches()]), expected)
        assert not reader.errors


def test_evaluation_converts_other_folders_as_training_did(tmp_path: Path) -> None:
    dim = fill(tmp_path / "dim", lambda path, p: Image.fromarray(p // 2).save(f"{path}.png"))
    other = fill(tmp_path / "other", WRITERS["one 16-bit plane"])
    trained = nephros.load_dataset(dim, size=28)
    assert trained.input_conversion == InputConversion(
        white_level=float(max(oblong(i, k, 16).max() // 2 for i in range(4) for k in (0, 1)))
    )
    evaluated = nephros.load_dataset(other, conversion=trained.input_conversion, shape=(1, 28, 28))
    assert evaluated.train.images.shape[1:] == (28, 28)
    assert evaluated.input_conversion == trained.input_conversion
    assert evaluated.train.images.max() == 255
    assert (evaluated.train.images == 255).mean() > 1.5 * (trained.train.images == 255).mean()  # twice as bright


def test_a_plane_of_two_colors_is_chosen_in_training_and_remembered(tmp_path: Path) -> None:
    root = fill(
        tmp_path / "cells",
        lambda path, p: tifffile.imwrite(
            f"{path}.tif", in_plane(p, 2) + in_plane(np.roll(p, 12, axis=1), 0), photometric="rgb"
        ),
    )
    dataset = nephros.load_dataset(root, size=28, channel=2)
    assert dataset.channels == 1
    assert dataset.input_conversion.channel == 2
    first = sorted((root / "disc").iterdir())[0]
    reader = CellReader([first], (1, 28, 28), conversion=dataset.input_conversion)
    assert len(list(reader.iter_batches())) == 1
    assert not reader.errors
    reader = CellReader([first], (1, 28, 28))
    assert not list(reader.iter_batches())
    assert "`channel`" in reader.errors[0]
    with pytest.raises(FileError, match="`channel`"):
        nephros.load_dataset(root, shape=(1, 28, 28))
    assert nephros.load_dataset(root, size=28).channels == 3


def test_a_model_of_an_npz_files_plane_takes_that_plane_of_files(tmp_path: Path) -> None:
    images, labels = square_images(60, 2, seed=0)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    color = np.stack([noise, images, noise[::-1]], axis=3)
    np.savez(tmp_path / "cells.npz", images=color, labels=labels)
    run = nephros.train(QUICK, tmp_path / "cells.npz", channel=1, test=True, out=tmp_path / "run")
    assert run.info().input_spec["channels"] == 1
    dataset = nephros.load_dataset(tmp_path / "cells.npz", channel=1)
    names = dataset.test.names
    assert names is not None
    rows = [int(name.removeprefix("images[").removesuffix("]")) for name in names]
    for row in rows:
        Image.fromarray(color[row]).save(tmp_path / f"{row}.png")
    predictor = load_classifier(run.root)
    expected = predictor.predict_batch(dataset.test.images).probabilities
    predictions = nephros.predict([tmp_path / f"{row}.png" for row in rows], predictor)
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-6)
    all_predictions = nephros.predict(tmp_path / "cells.npz", predictor)
    np.testing.assert_allclose(all_predictions.probabilities[rows], expected, atol=1e-6)
    assert nephros.evaluate(run.root, "test").metrics.n == len(rows)


def test_a_mix_of_bit_depths_needs_a_white_level(tmp_path: Path) -> None:
    root = fill(tmp_path / "cells", WRITERS["16-bit"])
    Image.fromarray((oblong(9, 0)).astype(np.uint8)).save(root / "disc" / "8-bit.png")
    with pytest.raises(FileError, match="`white_level`"):
        nephros.load_dataset(root)
    assert nephros.load_dataset(root, white_level=4095).input_conversion.white_level == 4095
    with pytest.raises(InvalidArgument):
        nephros.load_dataset(root, white_level=0)


def test_floats_that_were_scaled_by_a_percentile_keep_their_contrast(tmp_path: Path) -> None:
    root = fill(tmp_path / "cells", lambda path, p: tifffile.imwrite(f"{path}.tif", p.astype(np.float32) / 1500))
    dataset = nephros.load_dataset(root, size=28)
    brightest = max(oblong(i, k, 16).max() for i in range(4) for k in (0, 1))
    assert dataset.input_conversion.white_level == pytest.approx(brightest / 1500)
    assert len(np.unique(dataset.train.images)) > 100


def test_requests_of_earlier_versions_stretch_as_these_did(tmp_path: Path) -> None:
    root = fill(tmp_path / "cells", WRITERS["8-bit"])
    request = data_request(root, 28)
    letterboxed = load_request(request)
    earlier = request.copy()
    for key in ("white_level", "channel", "groups", "resize"):
        del earlier[key]  # type: ignore[misc]
    stretched = load_request(earlier)
    assert np.array_equal(letterboxed.val.labels, stretched.val.labels)
    assert (letterboxed.val.images[:, 0] == 0).all()
    assert (stretched.val.images[:, 0] > 0).any()
    assert stretched.provenance.detail == "split 7:1:2 by class with seed 0; resized to 28x28 pixels (bicubic)"
    assert stretched.input_conversion.resize == "stretch"


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("data") / "cells", WRITERS["16-bit"], n=20)


@pytest.fixture(scope="module")
def deep_run(deep_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on oblong 16-bit images."""
    return nephros.train(QUICK, deep_folder, size=28, out=tmp_path_factory.mktemp("runs") / "run")


def as_earlier_run(run: RunFolder, out: Path) -> RunFolder:
    """Return a copy of a run whose run.json lacks what earlier versions did not write."""
    shutil.copytree(run.root, out)
    values = json.loads((out / "run.json").read_text())
    del values["input_conversion"]
    for key in ("resize", "white_level", "channel", "groups"):
        del values["data_request"][key]
    (out / "run.json").write_text(json.dumps(values))
    return RunFolder.open(out)


def test_the_run_and_its_card_keep_the_conversion(deep_run: RunFolder, deep_folder: Path, tmp_path: Path) -> None:
    dataset = nephros.load_dataset(deep_folder, size=28)
    assert InputConversion.from_dict(deep_run.info().input_conversion) == dataset.input_conversion
    assert dataset.input_conversion.white_level is not None
    exported = nephros.export(deep_run.root, format="safetensors", out=tmp_path / "model.safetensors", force=True)
    for predictor in (load_classifier(deep_run.root), load_classifier(exported)):
        assert predictor.input_conversion == dataset.input_conversion
        predictions = nephros.predict(deep_folder, predictor)
        alone = nephros.predict(predictions.sources[7].file, predictor)
        np.testing.assert_allclose(alone.probabilities[0], predictions.probabilities[7], atol=1e-6)
        for expected in predictor.predict_batch(dataset.val.images).probabilities:
            assert np.abs(predictions.probabilities - expected).max(axis=1).min() < 1e-6
        assert any("as in training" in note for note in predictions.notes)
        brighter = nephros.predict(deep_folder, predictor, white_level=2000)
        assert not np.array_equal(brighter.probabilities, predictions.probabilities)
        assert any("2000 in place of" in note for note in brighter.notes)


def test_8_bit_images_given_to_a_model_of_16_bits_are_noted(deep_run: RunFolder, tmp_path: Path) -> None:
    Image.fromarray(oblong(0, 0).astype(np.uint8)).save(tmp_path / "8.png")
    notes = nephros.predict(tmp_path / "8.png", deep_run.root).notes
    assert any(note.startswith("8-bit pixels taken as they are") for note in notes)


def test_an_earlier_run_is_evaluated_exported_and_used_as_it_was_trained(deep_run: RunFolder, tmp_path: Path) -> None:
    run = as_earlier_run(deep_run, tmp_path / "run")
    assert build_export_bundle(run).dataset.input_conversion.resize == "stretch"
    assert nephros.evaluate(run.root).metrics.n == 4
    predictor = load_classifier(run.root)
    assert predictor.input_conversion == InputConversion(resize="stretch")
    wide = tmp_path / "wide.png"
    Image.fromarray(oblong(0, 0).astype(np.uint8)).save(wide)
    assert any("stretched" in note for note in nephros.predict(wide, predictor).notes)


@pytest.mark.parametrize(
    "conversion", [{"white_level": -4}, {"resize": "crop"}, {"white_level": "4095"}, [], {"gamma": 1}]
)
def test_a_damaged_conversion_is_an_error_of_its_file(conversion: Any, deep_run: RunFolder, tmp_path: Path) -> None:
    run = as_earlier_run(deep_run, tmp_path / "run")
    values = json.loads((run.root / "run.json").read_text())
    (run.root / "run.json").write_text(json.dumps(values | {"input_conversion": conversion}))
    with pytest.raises(FileError) as exc_info:
        run.info()
    assert "run.json" in str(exc_info.value)


@pytest.mark.slow
def test_the_command_line_chooses_levels_and_planes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = fill(
        tmp_path / "cells",
        lambda path, p: tifffile.imwrite(
            f"{path}.tif", in_plane(p, 2) + in_plane(np.roll(p, 12, axis=1), 0), photometric="rgb"
        ),
        n=10,
    )
    options = [
        "--data",
        root,
        "--size",
        16,
        "--white-level",
        4095,
        "--channel",
        2,
        "--out",
        tmp_path / "run",
        "--epochs",
        1,
    ]
    with pytest.raises(SystemExit) as exited:
        main(["train", "compact", "--model.base_channels", "4", *map(str, options)])
    assert not exited.value.code
    expected = dataclasses.asdict(InputConversion(4095, channel=2))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["input_conversion"] == expected
    first = sorted((root / "disc").iterdir())[0]
    for model, code in ((["--model", str(tmp_path / "run")], 0), ([], 2)):
        with pytest.raises(SystemExit) as exited:
            main(["predict", str(first), *model])
        assert exited.value.code == code
    assert "--channel" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "info", str(root), "--channel", "2"])
    summary = capsys.readouterr().out
    assert "1 channel" in summary
    assert "maximum, 3136, becomes 255" in summary
    assert "blue plane taken for the image (20 of 20 images)" in summary


def test_the_server_uses_the_level_of_the_training_images(deep_run: RunFolder, deep_folder: Path) -> None:
    predictor = load_classifier(deep_run.root)
    paths = sorted((deep_folder / "disc").iterdir())[:3]
    service = Service(predictor)
    try:
        info = version_response(service, RequestLimits(), BATCH_LIMITS, STACK_LIMITS).model.input
        assert info.white_level == predictor.input_conversion.white_level
        app = create_app(service, [])
        for files in (paths, paths[1:2]):
            status, text = call_app(
                app, "POST", "/predict", multipart_body([(p.name, p.read_bytes()) for p in files])[0]
            )
            assert status == 200
            expected = nephros.predict(files, predictor).probabilities
            results = json.loads(text)["results"]
            assert np.allclose([result["probabilities"] for result in results], expected, atol=2e-6)
    finally:
        service.close()
