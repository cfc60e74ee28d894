"""Named inputs become rows in the order named: cells of the model's input shape, or an error each."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nephros.data.images.input_conversion import InputConversion
from nephros.data.npz import stream as npz_stream
from nephros.inference import reader as reader_module
from nephros.inference.array_cells import arrays_to_cells
from nephros.inference.reader import CellReader
from nephros.microscopy.stack import StackOptions

SHAPE = (1, 8, 8)


def read(
    *inputs: Path, shape: tuple[int, int, int] = SHAPE, white_level: float | None = None
) -> tuple[CellReader, dict[int, Any]]:
    reader = CellReader(inputs, shape, white_level)
    cells: dict[int, Any] = {}
    for rows, batch in reader.iter_batches():
        assert batch.dtype == np.uint8
        assert not set(rows.tolist()) & set(cells)
        cells |= dict(zip(rows.tolist(), batch, strict=True))
    assert set(cells) | set(reader.errors) == set(range(len(reader.sources)))
    assert not set(cells) & set(reader.errors)
    return reader, cells


def save_image(path: Path, value: float, size: tuple[int, int] = (8, 8), dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, dtype=dtype)).save(path)
    return path


def test_rows_keep_the_order_named_with_errors_in_place(tmp_path: Path) -> None:
    first = save_image(tmp_path / "z.png", 1)
    for place, value in {"b/2.png": 3, "b/10.png": 2, "a.tif": 4, "b/.hidden.png": 9, "__MACOSX/x.png": 9}.items():
        save_image(tmp_path / "folder" / place, value)
    (tmp_path / "folder" / "b" / "notes.txt").write_text("no image")
    (tmp_path / "folder" / "b" / "3.png").write_bytes(b"broken")
    np.savez(tmp_path / "s.npz", images=np.full((2, 8, 8), 6, dtype=np.uint8))
    reader, cells = read(tmp_path / "folder", first, tmp_path / "s.npz", tmp_path / "none.png", first)
    folder = str(tmp_path / "folder")
    names = [row.file.removeprefix(folder).removeprefix(str(tmp_path)) for row in reader.sources]
    assert names == ["/a.tif", "/b/10.png", "/b/2.png", "/b/3.png", "/z.png", "/s.npz", "/s.npz", "/none.png", "/z.png"]
    assert [int(cells[i][0, 0]) if i in cells else None for i in range(9)] == [4, 2, 3, None, 1, 6, 6, None, 1]
    assert [row.index for row in reader.sources[5:7]] == [0, 1]
    assert "3.png is damaged" in reader.errors[3]
    assert "does not exist" in reader.errors[7]
    assert reader.n_read == len(reader) == 9


def test_pages_are_rows_and_too_small_ones_fail_alone(tmp_path: Path) -> None:
    pages = [Image.new("L", size, 5) for size in ((8, 8), (1, 1), (8, 8))]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    reader, cells = read(tmp_path / "p.tif")
    assert [row.index for row in reader.sources] == [0, 1, 2]
    assert set(cells) == {0, 2}
    assert "1x1 pixels, too few" in reader.errors[1]


def test_16_bit_inputs_share_the_brightest_pixel(tmp_path: Path) -> None:
    deep = save_image(tmp_path / "1.png", 1000, dtype=np.uint16)
    shallow = save_image(tmp_path / "2.png", 77)
    pages = [Image.fromarray(np.full((8, 8), value, dtype=np.uint16)) for value in (500, 2000)]
    pages[0].save(tmp_path / "3.tif", save_all=True, append_images=pages[1:])
    np.savez(tmp_path / "4.npz", val_images=np.full((3, 8, 8), 4000, dtype=np.uint16))
    reader, cells = read(deep, shallow, tmp_path / "3.tif", tmp_path / "4.npz", deep)
    assert [int(cells[i][0, 0]) for i in range(8)] == [64, 77, 32, 128, 255, 255, 255, 64]
    assert reader.sources[4].split == "val"
    assert reader.conversion_counts == {"16-bit pixels scaled to 8-bit: 4000 (the brightest of all) became 255": 7}
    _, cells = read(deep, tmp_path / "4.npz", white_level=2000)
    assert [int(cells[i][0, 0]) for i in range(4)] == [128, 255, 255, 255]


def test_inputs_of_more_bits_leave_those_of_fewer_as_bright_as_they_are(tmp_path: Path) -> None:
    kinds = {"uint16": 4000, "int32": 1_600_000_000, "float32": 0.5, "float64": 250.0}
    for name, value in kinds.items():
        Image.fromarray(np.full((8, 8), value, dtype=name)).save(
            tmp_path / f"{name}.tif"
        ) if name != "float64" else None
    np.savez(tmp_path / "float64.npz", images=np.full((1, 8, 8), 250.0))
    paths = [tmp_path / f"{name}.tif" for name in ("uint16", "int32", "float32")]
    reader, cells = read(*paths, tmp_path / "float64.npz")
    assert [int(cells[i][0, 0]) for i in range(4)] == [255, 255, 128, 250]
    assert "32-bit pixels scaled to 8-bit: 1.6e+09 (the brightest of all) became 255" in reader.conversion_counts


def test_fractions_beyond_1_are_scaled_by_the_brightest_of_all(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{value}.tif", value, dtype=np.float32) for value in (0.75, 1.5, 1.25)]
    _, cells = read(*paths)
    assert [int(cells[i][0, 0]) for i in range(3)] == [128, 255, 212]


@pytest.mark.parametrize(("channel", "level"), [("Blue", 30), ("red", 10), (1, 20)])
def test_a_plane_of_a_color_image_is_chosen_by_number_or_color(channel: int | str, level: int, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "color.png")
    reader = CellReader([tmp_path / "color.png"], SHAPE, stack_options=StackOptions(channel))
    ((_, cells),) = reader.iter_batches()
    assert (cells == level).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)])
def test_a_plane_is_chosen_of_an_array_as_of_a_file(shape: tuple[int, int, int], tmp_path: Path) -> None:
    color = np.tile(np.array([10, 20, 30], np.uint8), (2, 8, 8, 1))
    Image.fromarray(color[0]).save(tmp_path / "color.png")
    np.savez(tmp_path / "color.npz", images=color)
    for name in ("color.png", "color.npz"):
        ((_, cells),) = CellReader([tmp_path / name], shape, channel=1).iter_batches()
        assert (cells == 20).all()
    assert (arrays_to_cells(color, shape, InputConversion(channel=1))[0] == 20).all()


def test_a_16_bit_file_removed_before_its_second_reading_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MAX_BATCH_CELLS", 1)
    first, second = (save_image(tmp_path / name, 1000, dtype=np.uint16) for name in ("1.png", "2.png"))
    reader = CellReader([first, save_image(tmp_path / "0.png", 1), second], SHAPE)
    batches = reader.iter_batches()
    next(batches)
    first.unlink()
    remaining_rows = [row for rows, _ in batches for row in rows.tolist()]
    assert remaining_rows == [2]
    assert "does not exist" in reader.errors[0]


def test_size_and_color_are_converted_and_noted(tmp_path: Path) -> None:
    wide = save_image(tmp_path / "wide.png", 100, (10, 30))
    Image.new("RGBA", (16, 16), (255, 200, 100, 3)).save(tmp_path / "color.png")
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "print.jpg")
    reader, cells = read(wide, tmp_path / "color.png", tmp_path / "print.jpg")
    assert cells[0].shape == (8, 8)
    assert cells[0][0].max() == 0
    assert (cells[1] == 205).all()
    assert (cells[2] > 250).all()
    assert reader.conversion_counts == {
        "resized to 8x8 pixels (bicubic), padded with black to keep the aspect ratio": 1,
        "color converted to grayscale (0.299 red + 0.587 green + 0.114 blue)": 2,
        "resized to 8x8 pixels (bicubic)": 1,
        "printing inks (CMYK) converted to RGB without a color profile": 1,
    }
    reader, cells = read(wide, shape=(3, 8, 8))
    assert cells[0].shape == (8, 8, 3)
    assert "grayscale repeated in all three channels" in reader.conversion_counts


def test_an_npz_is_streamed_without_complete_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_stream, "STREAM_BYTES", 200)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: rng.integers(0, 256, (5, 8, 8), dtype=np.uint8) for name in ("test_images", "images")
    }
    np.savez_compressed(tmp_path / "c.npz", **arrays, val_labels=np.arange(3), other=np.array(["x"]))
    reader, cells = read(tmp_path / "c.npz")
    assert [(row.split, row.index) for row in reader.sources] == [("test", i) for i in range(5)] + [
        ("", i) for i in range(5)
    ]
    assert np.array_equal(np.stack([cells[i] for i in range(10)]), np.concatenate(list(arrays.values())))


INVALID_ARRAYS: dict[str, tuple[Any, str]] = {
    "pickled": (np.array([{}], dtype=object), "never opened"),
    "complex": (np.zeros((2, 8, 8), dtype=np.complex64), "complex64"),
    "flat": (np.zeros((2, 64), dtype=np.uint8), "must be (n, h, w)"),
    "empty": (np.zeros((0, 8, 8), dtype=np.uint8), "is empty"),
    "tiny": (np.zeros((5, 1, 1), dtype=np.uint8), "too small or too large"),
    "fortran": (np.asfortranarray(np.ones((2, 8, 9), dtype=np.uint8)), "column by column"),
}


def read_error(path: Path) -> str:
    """Return the only error of an npz file, after which nothing else lies in its folder."""
    reader, cells = read(path)
    assert not cells
    assert "\n" not in reader.errors[0]
    assert list(path.parent.iterdir()) == [path]
    return reader.errors[0]


@pytest.mark.parametrize(("array", "expected"), INVALID_ARRAYS.values(), ids=INVALID_ARRAYS)
def test_an_npz_of_an_invalid_array_is_one_error(array: Any, expected: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", images=array)
    assert expected in read_error(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("content", "expected"), [(b"hello", "is not an .npz file"), (b"PK\x05\x06" + bytes(18), "holds no images")]
)
def test_a_file_that_is_no_npz_or_an_empty_one_is_one_error(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    assert expected in read_error(tmp_path / "bad.npz")


def test_an_npz_without_images_is_one_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", pixels=np.zeros(3))
    assert "holds no images, train_images" in read_error(tmp_path / "bad.npz")


def test_a_truncated_npz_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, images=np.ones((9, 8, 8), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:300])
    assert "damaged or cut short" in read_error(path)


def test_an_npz_never_writes_outside_its_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("../../images.npy", b"x")
    assert "holds no images" in read_error(tmp_path / "bad.npz")


@pytest.mark.slow
def test_a_zip_bomb_is_refused_from_its_directory(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((400_000, 28, 28), dtype=np.uint8))
    reader, _ = read(tmp_path / "bomb.npz")
    assert "zip bomb" in reader.errors[0]


def test_a_flipped_bit_late_in_an_npz_keeps_earlier_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_stream, "STREAM_BYTES", 64)
    np.savez(tmp_path / "c.npz", images=np.arange(10 * 64, dtype=np.uint16).astype(np.uint8).reshape(10, 8, 8))
    data = bytearray((tmp_path / "c.npz").read_bytes())
    data[300] ^= 1
    (tmp_path / "c.npz").write_bytes(bytes(data))
    reader, cells = read(tmp_path / "c.npz")
    assert "damaged" in reader.errors[len(reader.sources) - 1]
    assert len(cells) == len(reader.sources) - 1 < 10


def test_empty_folders_and_unprintable_names(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "folder.npz").mkdir()
    unprintable = save_image(tmp_path / "new\nline \x1b[31m.png", 3)
    reader, cells = read(tmp_path / "none", unprintable, tmp_path / "folder.npz")
    kinds = "PNG, TIFF, JPEG, npz, ND2, LIF, IMS, CZI"
    assert f"contains no {kinds} or OME-Zarr; name" in reader.errors[0]
    assert int(cells[1][0, 0]) == 3
    assert "contains no PNG" in reader.errors[2]
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "notes.txt").touch()
    save_image(tmp_path / "mixed" / "1.png", 1)
    reader, _ = read(tmp_path / "mixed")
    assert reader.input_notes == [f"skipped in folders, where only {kinds} and OME-Zarr are read: 1 .txt"]


def test_an_invalid_array_of_an_npz_keeps_the_others(tmp_path: Path) -> None:
    cells = np.full((2, 8, 8), 7, dtype=np.uint8)
    np.savez(tmp_path / "c.npz", train_images=cells, val_images=cells.astype(np.complex64), test_images=cells)
    reader, predicted = read(tmp_path / "c.npz")
    assert [row.split for row in reader.sources] == ["train", "train", "val", "test", "test"]
    assert set(predicted) == {0, 1, 3, 4}
    assert "val_images is complex64" in reader.errors[2]


def test_skipped_files_of_a_folder_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "folder"
    save_image(root / "a.png", 1)
    np.savez(root / "b.NPZ", images=np.full((2, 8, 8), 2, dtype=np.uint8))
    (root / "b.NPZ.npz").rename(root / "b.NPZ")
    np.savez(root / "bad.npz", pixels=np.zeros(3))
    (root / "sub.npz").mkdir()
    save_image(root / "sub.npz" / "c.jpg", 3)
    for name in ("1.gif", "2.GIF", "3.svg", ".DS_Store", "table.csv", "README", "what.\x1b[31m"):
        (root / "sub.npz" / name).write_text("x")
    (root / ".git").mkdir()
    reader, cells = read(root)
    assert [row.file.removeprefix(str(root)) for row in reader.sources] == [
        "/a.png", "/b.NPZ", "/b.NPZ", "/bad.npz", "/sub.npz/c.jpg"
    ]  # fmt: skip
    assert [int(cells[i][0, 0]) for i in (0, 1, 2, 4)] == [1, 2, 2, 3]
    assert "holds no images" in reader.errors[3]
    (note,) = reader.input_notes
    assert note.startswith("skipped in folders")
    assert note.endswith(": 2 hidden, 2 .gif, 2 without a suffix, 1 .svg, 1 .csv (8 in all)")


def test_a_folder_of_other_files_lists_their_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(b"BM")
    (tmp_path / "b.bmp").write_bytes(b"BM")
    reader, _ = read(tmp_path)
    assert reader.errors[0].endswith("only 2 .bmp; name another folder.")


def test_an_unreadable_folder_has_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("a/1.png", "b/2.png", "c/3.png"):
        save_image(tmp_path / place, 1)
    scandir = os.scandir

    def deny(path: Any) -> Any:  # not by chmod, which does not stop root
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    reader, cells = read(tmp_path)
    assert [Path(row.file).name for row in reader.sources] == ["1.png", "b", "3.png"]
    assert set(cells) == {0, 2}
    assert reader.errors[1] == f"{tmp_path / 'b'} can't be read (Permission denied); check its permissions."
    reader, _ = read(tmp_path / "b")
    assert "Permission denied" in reader.errors[0]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    save_image(tmp_path / "elsewhere" / "deep" / "1.png", 1)
    root = tmp_path / "root"
    save_image(root / "0.png", 0)
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "self").symlink_to(root)
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "elsewhere")
    (root / "nowhere").symlink_to(tmp_path / "none")
    reader, cells = read(root, root)
    expected = ["/0.png", "/link/deep/1.png"]
    assert [row.file.removeprefix(str(root)) for row in reader.sources] == expected * 2
    assert len(cells) == 4
    assert "4 by links to folders already read, 2 without a suffix" in reader.input_notes[0]


def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "MAX_BATCH_CELLS", 3)
    for value in range(8):
        save_image(tmp_path / f"{value}.png", value)
    assert [len(rows) for rows, _ in CellReader([tmp_path], SHAPE).iter_batches()] == [3, 3, 2]
