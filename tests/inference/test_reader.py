"""What users name becomes rows in the order named: cells of the model's shape, or one sentence on why not."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nephros.data import npz_stream
from nephros.inference import reader
from nephros.inference.reader import CellReader

SHAPE = (1, 8, 8)


def read(
    *named: Path, shape: tuple[int, int, int] = SHAPE, white: float | None = None
) -> tuple[CellReader, dict[int, Any]]:
    source = CellReader(named, shape, white)
    cells: dict[int, Any] = {}
    for rows, batch in source.iter_batches():
        assert batch.dtype == np.uint8
        assert not set(rows.tolist()) & set(cells)
        cells |= dict(zip(rows.tolist(), batch, strict=True))
    assert set(cells) | set(source.errors) == set(range(len(source.sources)))
    assert not set(cells) & set(source.errors)
    return source, cells


def save(path: Path, value: int, size: tuple[int, int] = (8, 8), dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, dtype=dtype)).save(path)
    return path


def test_rows_come_in_the_order_named_and_bad_ones_between_good(tmp_path: Path) -> None:
    first = save(tmp_path / "z.png", 1)
    for place, value in {"b/2.png": 3, "b/10.png": 2, "a.tif": 4, "b/.hidden.png": 9, "__MACOSX/x.png": 9}.items():
        save(tmp_path / "folder" / place, value)
    (tmp_path / "folder" / "b" / "notes.txt").write_text("no picture")
    (tmp_path / "folder" / "b" / "3.png").write_bytes(b"broken")
    np.savez(tmp_path / "s.npz", images=np.full((2, 8, 8), 6, dtype=np.uint8))
    source, cells = read(tmp_path / "folder", first, tmp_path / "s.npz", tmp_path / "none.png", first)
    folder = str(tmp_path / "folder")
    names = [row.file.removeprefix(folder).removeprefix(str(tmp_path)) for row in source.sources]
    assert names == ["/a.tif", "/b/10.png", "/b/2.png", "/b/3.png", "/z.png", "/s.npz", "/s.npz", "/none.png", "/z.png"]
    assert [int(cells[i][0, 0]) if i in cells else None for i in range(9)] == [4, 2, 3, None, 1, 6, 6, None, 1]
    assert [row.index for row in source.sources[5:7]] == [0, 1]
    assert "3.png is damaged" in source.errors[3]
    assert "does not exist" in source.errors[7]
    assert source.n_read == len(source) == 9


def test_pages_are_rows_and_small_ones_fail_alone(tmp_path: Path) -> None:
    pages = [Image.new("L", size, 5) for size in ((8, 8), (1, 1), (8, 8))]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    source, cells = read(tmp_path / "p.tif")
    assert [row.index for row in source.sources] == [0, 1, 2]
    assert set(cells) == {0, 2}
    assert "1x1 pixels, too few" in source.errors[1]


def test_deep_pictures_share_the_brightest_pixel_whatever_holds_them(tmp_path: Path) -> None:
    one = save(tmp_path / "1.png", 1000, dtype=np.uint16)
    flat = save(tmp_path / "2.png", 77)
    pages = [Image.fromarray(np.full((8, 8), value, dtype=np.uint16)) for value in (500, 2000)]
    pages[0].save(tmp_path / "3.tif", save_all=True, append_images=pages[1:])
    np.savez(tmp_path / "4.npz", val_images=np.full((3, 8, 8), 4000, dtype=np.uint16))
    source, cells = read(one, flat, tmp_path / "3.tif", tmp_path / "4.npz", one)
    assert [int(cells[i][0, 0]) for i in range(8)] == [64, 77, 32, 128, 255, 255, 255, 64]
    assert source.sources[4].split == "val"
    assert source.conversion_counts == {"16-bit pixels made 8-bit: 4000 became 255": 7}
    _, cells = read(one, tmp_path / "4.npz", white=2000)
    assert [int(cells[i][0, 0]) for i in range(4)] == [128, 255, 255, 255]


def test_a_deep_file_that_goes_away_between_readings_has_its_error(tmp_path: Path) -> None:
    one, two = (save(tmp_path / name, 1000, dtype=np.uint16) for name in ("1.png", "2.png"))
    source = CellReader([one, save(tmp_path / "0.png", 1), two], SHAPE)
    source._batch_size = 1
    batches = source.iter_batches()
    next(batches)
    one.unlink()
    rest = [row for rows, _ in batches for row in rows.tolist()]
    assert rest == [2]
    assert "does not exist" in source.errors[0]


def test_shape_and_colour_are_fitted_and_noted(tmp_path: Path) -> None:
    wide = save(tmp_path / "wide.png", 100, (10, 30))
    Image.new("RGBA", (16, 16), (255, 0, 0, 3)).save(tmp_path / "colour.png")
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "print.jpg")
    source, cells = read(wide, tmp_path / "colour.png", tmp_path / "print.jpg")
    assert cells[0].shape == (8, 8)
    assert cells[0][0].max() == 0
    assert (cells[1] == 76).all()
    assert (cells[2] > 250).all()
    assert source.conversion_counts == {
        "resized to 8x8 pixels (bicubic), black added to keep the shape": 1,
        "color converted to grayscale (.299 red + .587 green + .114 blue)": 2,
        "resized to 8x8 pixels (bicubic)": 1,
    }
    source, cells = read(wide, shape=(3, 8, 8))
    assert cells[0].shape == (8, 8, 3)
    assert "grayscale repeated in all three channels" in source.conversion_counts


def test_an_npz_is_read_in_parts_whatever_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_stream, "STREAM_BYTES", 200)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: rng.integers(0, 256, (5, 8, 8), dtype=np.uint8) for name in ("test_images", "images")
    }
    np.savez_compressed(tmp_path / "c.npz", **arrays, val_labels=np.arange(3), other=np.array(["x"]))
    source, cells = read(tmp_path / "c.npz")
    assert [(row.split, row.index) for row in source.sources] == [("test", i) for i in range(5)] + [
        ("", i) for i in range(5)
    ]
    assert np.array_equal(np.stack([cells[i] for i in range(10)]), np.concatenate(list(arrays.values())))


@pytest.mark.parametrize(
    "what", ["pickled", "floats", "flat", "none", "empty", "tiny", "fortran", "cut", "text", "zip", "hostile"]
)
def test_bad_npz_files_are_one_sentence(what: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    arrays: dict[str, tuple[Any, str]] = {
        "pickled": (np.array([{}], dtype=object), "never opened"),
        "floats": (np.zeros((2, 8, 8)), "float64"),
        "flat": (np.zeros((2, 64), dtype=np.uint8), "must be (n, h, w)"),
        "empty": (np.zeros((0, 8, 8), dtype=np.uint8), "is empty"),
        "tiny": (np.zeros((5, 1, 1), dtype=np.uint8), "too small or too large"),
        "fortran": (np.asfortranarray(np.ones((2, 8, 9), dtype=np.uint8)), "column by column"),
    }
    if what in arrays:
        array, expected = arrays[what]
        np.savez(path, images=array)
    elif what == "none":
        np.savez(path, pixels=np.zeros(3))
        expected = "holds no images, train_images"
    elif what == "cut":
        np.savez(path, images=np.ones((9, 8, 8), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[:300])
        expected = "damaged or cut short"
    elif what == "text":
        path.write_text("hello")
        expected = "is not an .npz file"
    elif what == "zip":
        path.write_bytes(b"PK\x05\x06" + bytes(18))
        expected = "holds no images"
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../../images.npy", b"x")
        expected = "holds no images"
    source, cells = read(path)
    assert not cells
    assert expected in source.errors[0]
    assert "\n" not in source.errors[0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_zip_bomb_is_refused_from_its_directory(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((400_000, 28, 28), dtype=np.uint8))
    source, _ = read(tmp_path / "bomb.npz")
    assert "zip bomb" in source.errors[0]


def test_a_flipped_bit_late_in_an_npz_leaves_the_rows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_stream, "STREAM_BYTES", 64)
    np.savez(tmp_path / "c.npz", images=np.arange(10 * 64, dtype=np.uint16).astype(np.uint8).reshape(10, 8, 8))
    data = bytearray((tmp_path / "c.npz").read_bytes())
    data[300] ^= 1
    (tmp_path / "c.npz").write_bytes(bytes(data))
    source, cells = read(tmp_path / "c.npz")
    assert "damaged" in source.errors[len(source.sources) - 1]
    assert len(cells) == len(source.sources) - 1 < 10


def test_folders_without_pictures_and_odd_names(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "folder.npz").mkdir()
    odd = save(tmp_path / "new\nline \x1b[31m.png", 3)
    source, cells = read(tmp_path / "none", odd, tmp_path / "folder.npz")
    assert "holds no PNG, TIFF or JPEG pictures" in source.errors[0]
    assert int(cells[1][0, 0]) == 3
    assert "holds no PNG" in source.errors[2]


def test_a_bad_array_of_an_npz_leaves_the_others(tmp_path: Path) -> None:
    cells = np.full((2, 8, 8), 7, dtype=np.uint8)
    np.savez(tmp_path / "c.npz", train_images=cells, val_images=cells / 255, test_images=cells)
    source, answered = read(tmp_path / "c.npz")
    assert [row.split for row in source.sources] == ["train", "train", "val", "test", "test"]
    assert set(answered) == {0, 1, 3, 4}
    assert "val_images is float64" in source.errors[2]


def test_a_folder_loses_nothing_in_silence(tmp_path: Path) -> None:
    root = tmp_path / "folder"
    save(root / "a.png", 1)
    np.savez(root / "b.NPZ", images=np.full((2, 8, 8), 2, dtype=np.uint8))
    (root / "b.NPZ.npz").rename(root / "b.NPZ")
    np.savez(root / "bad.npz", pixels=np.zeros(3))
    (root / "sub.npz").mkdir()
    save(root / "sub.npz" / "c.jpg", 3)
    for name in ("1.gif", "2.GIF", "3.svg", ".DS_Store", "table.csv", "README", "what.\x1b[31m"):
        (root / "sub.npz" / name).write_text("x")
    (root / ".git").mkdir()
    source, cells = read(root)
    assert [row.file.removeprefix(str(root)) for row in source.sources] == [
        "/a.png", "/b.NPZ", "/b.NPZ", "/bad.npz", "/sub.npz/c.jpg"
    ]  # fmt: skip
    assert [int(cells[i][0, 0]) for i in (0, 1, 2, 4)] == [1, 2, 2, 3]
    assert "holds no images" in source.errors[3]
    (note,) = source.input_notes
    assert note.startswith("passed over in the folders named")
    assert note.endswith(": 2 hidden, 2 .gif, 2 without a suffix, 1 .svg, 1 .csv (8 in all)")


def test_a_folder_of_other_files_says_which(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(b"BM")
    (tmp_path / "b.bmp").write_bytes(b"BM")
    source, _ = read(tmp_path)
    assert source.errors[0].endswith("holds no PNG, TIFF or JPEG pictures and no npz, but 2 .bmp; name another folder.")


def test_a_locked_folder_has_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("a/1.png", "b/2.png", "c/3.png"):
        save(tmp_path / place, 1)
    scandir = os.scandir

    def locked(path: Any) -> Any:  # not by chmod, which does not stop root
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    source, cells = read(tmp_path)
    assert [Path(row.file).name for row in source.sources] == ["1.png", "b", "3.png"]
    assert set(cells) == {0, 2}
    assert source.errors[1] == f"{tmp_path / 'b'} can't be read (Permission denied); check its permissions."
    source, _ = read(tmp_path / "b")
    assert "Permission denied" in source.errors[0]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "deep" / "1.png", 1)
    root = tmp_path / "root"
    save(root / "0.png", 0)
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "self").symlink_to(root)
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "elsewhere")
    (root / "nowhere").symlink_to(tmp_path / "none")
    source, cells = read(root, root)
    once = ["/0.png", "/link/deep/1.png"]
    assert [row.file.removeprefix(str(root)) for row in source.sources] == once * 2
    assert len(cells) == 4
    assert "4 by links to folders already read, 2 without a suffix" in source.input_notes[0]


def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BATCH_CELLS", 3)
    for value in range(8):
        save(tmp_path / f"{value}.png", value)
    assert [len(rows) for rows, _ in CellReader([tmp_path], SHAPE).iter_batches()] == [3, 3, 2]
