"""Unusual images are decoded in a worker: with the same pixels and errors as here, within a limit, at no other file's cost."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import nephros
from nephros.cli import main
from nephros.data.images import decoder as decoder_module
from nephros.data.images.decoder import ImageDecoder, default_pool
from nephros.data.images.decoding import decode_image, decode_pages, strict_pillow_warnings
from nephros.data.images.decoding_cost import is_cheap
from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.inference.predictor import Predictor
from nephros.isolation.pool import TimeBudget, WorkerPool
from tests.killing import kill
from tests.server.hostile_files import pages

RNG = np.random.default_rng(0)
CELL = RNG.integers(0, 120, (28, 28), dtype=np.uint8)
EVERYTHING = ImageDecoder(max_cheap_pixels=0)
"""Decodes every image in a worker."""
SLOW_TIFF = pages(90_000, "lzw")
"""Takes half a minute to decode."""
CORPUS = Path(__file__).parents[2] / "corpus" / "hostile"


@pytest.fixture(autouse=True)
def _own_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One worker for these tests, which ends with them."""
    pool = WorkerPool(1, modules=decoder_module.WORKER_MODULES)
    monkeypatch.setattr(decoder_module, "default_pool", lambda: pool)
    yield
    pool.close()


def encode(*images: Image.Image, image_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    images[0].save(file, image_format, **({"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}))
    return file.getvalue()


def outcome(read: object, name: str, data: bytes) -> list[tuple[str, object, object]] | str:
    """Return what a reader makes of a file: pixels, layouts and notes, or the message of its error."""
    try:
        images = list(read(name, data)) if "pages" in read.__name__ else [read(name, data)]  # type: ignore[attr-defined,operator]
    except NephrosError as error:
        return f"{type(error).__name__}: {error}"
    return [(str(image.pixels.dtype) + repr(image.pixels.tolist()), image.layout, image.notes) for image in images]


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir() if path.suffix != ".npz"))
def test_workers_give_the_pixels_and_errors_of_this_process(name: str) -> None:
    data = (CORPUS / name).read_bytes()
    with strict_pillow_warnings():
        for here, there in ((decode_image, EVERYTHING.decode_image), (decode_pages, EVERYTHING.decode_pages)):
            assert outcome(there, name, data) == outcome(here, name, data)


def test_pages_of_several_kinds_arrive_in_order_before_an_error() -> None:
    images = [Image.fromarray(CELL), Image.fromarray(CELL[:9]), Image.new("RGB", (9, 7)), Image.fromarray(CELL)] * 40
    data = encode(*images, image_format="TIFF")
    with strict_pillow_warnings():
        assert outcome(EVERYTHING.decode_pages, "a", data) == outcome(decode_pages, "a", data)
        shapes, message = [], ""
        try:
            for image in EVERYTHING.decode_pages("a", data[:-60]):
                shapes.append(image.pixels.shape)
        except FileError as error:
            message = str(error)
    assert len(shapes) > 100
    assert message.startswith(f"a, page {len(shapes)},")


def test_a_slow_file_gets_one_sentence_and_the_next_one_its_pixels() -> None:
    decoder = ImageDecoder(0.2)
    for name in ("slow.tif", "too.tif"):  # each has a limit of its own
        with pytest.raises(FileError, match=rf"{name} takes more than 0\.2 seconds") as raised:
            list(decoder.decode_pages(name, SLOW_TIFF))
        assert raised.value.path == name
    assert len(list(ImageDecoder().decode_pages("pages.tif", pages(600, "lzw")))) == 600


def test_a_budget_covers_all_files_of_a_request() -> None:
    decoder = ImageDecoder(budget=TimeBudget(0.2))
    for name in ("slow.tif", "slow too.tif"):
        with pytest.raises(FileError, match=r"the files before it take more than 0\.2 seconds") as raised:
            list(decoder.decode_pages(name, SLOW_TIFF))
        assert raised.value.path == name
    with strict_pillow_warnings():
        assert decoder.decode_image("cell.png", encode(Image.fromarray(CELL))).pixels.shape == (28, 28)


@pytest.mark.slow
def test_a_worker_that_dies_is_an_error_of_one_file() -> None:
    images = EVERYTHING.decode_pages("killed.tif", SLOW_TIFF)
    next(images)
    kill(decoder_module.default_pool().pids)
    with pytest.raises(FileError, match=r"killed\.tif makes its decoder crash"):
        list(images)
    assert EVERYTHING.decode_image("cell.png", encode(Image.fromarray(CELL))).pixels.shape == (28, 28)


@pytest.mark.slow
def test_a_lack_of_memory_is_an_error_of_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(1, max_memory=450 << 20)
    monkeypatch.setattr(decoder_module, "default_pool", lambda: pool)
    tifffile.imwrite(file := io.BytesIO(), np.zeros((4900, 4900, 4), np.uint16), photometric="rgb", compression="zlib")
    with pytest.raises(FileError, match=r"large\.tif .*(memory|far too large)"):
        EVERYTHING.decode_image("large.tif", file.getvalue())
    assert EVERYTHING.decode_image("cell.png", encode(Image.fromarray(CELL))).pixels.shape == (28, 28)
    pool.close()


def test_predict_decodes_within_its_limits(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(Image.fromarray(CELL)))
    (tmp_path / "slow.tif").write_bytes(SLOW_TIFF)
    (tmp_path / "z.tif").write_bytes(pages(400, "lzw"))  # decoded in this process, which has no limit of seconds
    predictions = nephros.predict(tmp_path, predictor, decode_timeout=0.2)
    (message,) = predictions.errors.values()
    assert message.startswith(str(tmp_path / "slow.tif"))
    assert "`decode_timeout`" in message
    names = [Path(source.file).name for source in predictions.sources]
    assert (names.count("a.png"), names.count("z.tif")) == (1, 400)
    predictions = nephros.predict([tmp_path / "a.png", tmp_path / "z.tif"], predictor, max_pixels=2 * CELL.size)
    (message,) = predictions.errors.values()
    assert message.startswith(str(tmp_path / "z.tif"))
    assert "`max_pixels`" in message
    for limit in ("decode_timeout", "max_pixels"):
        with pytest.raises(InvalidArgument) as raised:
            nephros.predict(tmp_path, predictor, **{limit: 0})  # type: ignore[arg-type]
        assert raised.value.parameter == limit


def test_a_folder_for_training_has_one_sentence_for_what_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("one", "two"):
        (tmp_path / label).mkdir()
        for i in range(4):
            (tmp_path / label / f"{i}.png").write_bytes(encode(Image.fromarray(CELL)))
    texts = tmp_path / "one" / "2.tif"
    tifffile.imwrite(texts, CELL, compression="zstd")
    assert not is_cheap(texts.read_bytes())
    assert nephros.load_dataset(tmp_path).n_classes == 2
    monkeypatch.setattr(ImageDecoder.__init__, "__defaults__", (0.0,))  # no machine is fast enough for that
    with pytest.raises(SystemExit) as raised:
        main(["data", "info", str(tmp_path)])
    assert raised.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(texts) in line


def test_the_usual_pool_starts_with_the_first_unusual_image() -> None:
    assert default_pool() is default_pool()
    assert default_pool().size > 3  # a stack, its mask and images may be open at once
