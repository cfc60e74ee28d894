"""TIFF files of slices that are not certain to be harmless are read in a process: alike, and at no one's cost if it dies."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nephros.data.images import decoder as decoder_module
from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.isolation.pool import MAX_MEMORY, WorkerPool
from nephros.microscopy import isolated_stack as isolated_stack_module
from nephros.microscopy.isolated_stack import is_plain_tiff
from nephros.microscopy.reader import open_stack
from nephros.microscopy.stack import Stack
from tests.killing import kill
from tests.microscopy.test_sequence_stack import write_slices
from tests.sparse_files import lengthen

VOLUME = np.random.default_rng(0).integers(0, 200, (5, 40, 36)).astype(np.uint8)
PLAIN: dict[str, dict[str, Any]] = {
    "uncompressed": {},
    "Deflate, OME": {"compression": "zlib", "ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5}},
    "LZW, tiles": {"compression": "lzw", "tile": (16, 16)},
    "ImageJ": {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "um"}, "resolution": (2, 2)},
    "predictor": {"compression": "zlib", "predictor": True},
    "big-endian BigTIFF": {"byteorder": ">", "bigtiff": True},
}
UNUSUAL: dict[str, dict[str, Any]] = {
    **{name: {"compression": name} for name in ("png", "jpegxr", "jpeg2000", "zstd", "lzma", "jpegxl")},
    "a program's own tag": {"extratags": [(51123, "s", 0, '{"z-step_um": 3}', True)]},
    "a directory below a page": {"subifds": 1},
}


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(3, modules=decoder_module.WORKER_MODULES)
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def _module_pool(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "default_pool", lambda: pool)


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read every file in a process."""
    monkeypatch.setattr(isolated_stack_module, "is_plain_tiff", lambda _: False)


def write(path: Path, **options: Any) -> Path:
    with tifffile.TiffWriter(
        path, **{key: options.pop(key) for key in ("imagej", "ome", "byteorder", "bigtiff") if key in options}
    ) as writer:
        writer.write(VOLUME, photometric="minisblack", **{"metadata": {"axes": "ZYX"}} | options)
        if options.get("subifds"):
            writer.write(VOLUME[:, ::2, ::2], photometric="minisblack", subfiletype=1)
    return path


def facts(stack: Stack) -> tuple[Any, ...]:
    return (
        stack.path,
        stack.shape,
        stack.dtype,
        stack.channel,
        stack.n_channels,
        stack.voxel_size,
        stack.image,
        stack.notes,
        [values.tolist() for values in stack.slices()],
    )


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_files_need_no_process(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "default_pool", lambda: pytest.fail("a process was asked for"))
    path = write(tmp_path / "a.tif", **PLAIN[kind])
    assert is_plain_tiff(path)
    np.testing.assert_array_equal(np.stack(list(open_stack(path).slices())), VOLUME)


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_files_are_read_in_a_process(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", **UNUSUAL[kind])
    assert not is_plain_tiff(path)
    np.testing.assert_array_equal(np.stack(list(open_stack(path).slices())), VOLUME)


@pytest.mark.parametrize("kind", ["Deflate, OME", "ImageJ", "big-endian BigTIFF"])
@pytest.mark.usefixtures("isolated")
def test_a_process_reads_what_this_one_reads(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", **PLAIN[kind])
    there = facts(open_stack(path)), facts(open_stack(path, is_mask=True))
    monkeypatch.undo()
    assert (facts(open_stack(path)), facts(open_stack(path, is_mask=True))) == there


@pytest.mark.usefixtures("isolated")
def test_choices_and_errors_are_those_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cut = tmp_path / "a.tif", tmp_path / "cut.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for volume in (VOLUME[:, None], VOLUME[:, None, ::-1]):
            channels = np.repeat(volume, 2, axis=1)
            writer.write(channels, photometric="minisblack", metadata={"axes": "ZCYX"}, compression="zlib")
    cut.write_bytes(path.read_bytes()[:-300])
    options: list[dict[str, Any]] = [{"channel": 1, "image": 1}, {}, {"image": 7}, {"channel": 5}, {"axes": "XX"}]

    def outcome(file: Path, **arguments: Any) -> Any:
        try:
            return facts(open_stack(file, **arguments))
        except NephrosError as error:
            return type(error), str(error), vars(error)

    there = [outcome(file, **arguments) for file in (path, cut) for arguments in options]
    monkeypatch.undo()
    assert [outcome(file, **arguments) for file in (path, cut) for arguments in options] == there
    assert [isinstance(item[0], Path) for item in there[:2]] == [True, False]
    assert issubclass(there[2][0], InvalidArgument)


@pytest.mark.usefixtures("isolated")
def test_a_stack_its_mask_and_a_folder_are_open_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif")
    folder = write_slices(tmp_path / "folder", VOLUME, compression="zstd")
    stacks = open_stack(path), open_stack(path, is_mask=True), open_stack(folder)
    for planes in zip(VOLUME, *(stack.slices() for stack in stacks), strict=True):
        assert all((plane == planes[0]).all() for plane in planes)


@pytest.mark.slow
@pytest.mark.usefixtures("isolated")
def test_a_decoder_that_dies_is_an_error_of_its_file(tmp_path: Path, pool: WorkerPool) -> None:
    volume = np.random.default_rng(0).integers(0, 200, (60, 1024, 1024)).astype(np.uint8)  # more than fits into a pipe
    tifffile.imwrite(tmp_path / "a.tif", volume, photometric="minisblack", compression="zstd")
    slices = open_stack(tmp_path / "a.tif").slices()
    next(slices)
    kill(pool.pids)
    with pytest.raises(FileError, match=r"a\.tif makes its decoder crash") as raised:
        list(slices)
    assert raised.value.path == tmp_path / "a.tif"
    assert len(list(open_stack(tmp_path / "a.tif").slices())) == 60


def test_what_takes_too_long_is_an_error_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_stack_module, "DECODE_TIMEOUT_S", 0.0)  # no machine is fast enough for that
    folder = write_slices(tmp_path / "folder", VOLUME, compression="zstd")
    for path, culprit in ((write(tmp_path / "a.tif", compression="zstd"),) * 2, (folder, folder / "img_z0.tif")):
        with pytest.raises(FileError, match="more than 0 seconds per slice") as raised:
            open_stack(path)
        assert raised.value.path == culprit


def test_each_slice_has_a_limit_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[Any] = []
    read_isolated = decoder_module.read_isolated

    def spend(*args: Any, budget: Any, **options: Any) -> Iterator[Any]:
        budgets.append(budget)
        for item in read_isolated(*args, budget=budget, **options):
            budget.left = 0.6 * budget.seconds if budget.left > 0.9 * budget.seconds else -1.0
            yield item

    monkeypatch.setattr(isolated_stack_module, "read_isolated", spend)
    list(open_stack(write(tmp_path / "a.tif", compression="zstd")).slices())
    assert [budget.left > 0 for budget in budgets] == [True, True]


def _ome(sizes: str = "", data: str = '<TiffData IFD="0" PlaneCount="2"/>', annotation: str = "") -> str:
    default = 'SizeX="36" SizeY="40" SizeZ="2" SizeC="1" SizeT="1"'
    pixels = f'<Pixels ID="P" DimensionOrder="XYZCT" Type="uint8" {sizes or default}>{data}</Pixels>'
    modulo = (
        f"<StructuredAnnotations><XMLAnnotation ID='A'><Value><Modulo>{annotation}</Modulo></Value></XMLAnnotation>"
    )
    return (
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="I">{pixels}</Image>'
        f"{modulo}</StructuredAnnotations></OME>"
    )


CLAIMS = {
    "slices": _ome('SizeX="36" SizeY="40" SizeZ="1000000000" SizeC="1" SizeT="1"'),
    "times and channels": _ome('SizeX="36" SizeY="40" SizeZ="2" SizeC="90000" SizeT="90000"'),
    "planes": _ome(data='<TiffData IFD="0" PlaneCount="1000000000"/>'),
    "planes by their old name": _ome(data='<TiffData NumPlanes="1000000000"/>'),
    "a place": _ome(data='<TiffData IFD="0" FirstZ="999999999"/>'),
    "elements": _ome(data='<TiffData FirstZ="0"/>' * 9000),
    "a range": _ome(annotation='<ModuloAlongZ Type="x" Start="0" End="1e10"/>'),
    "a small step": _ome(annotation='<ModuloAlongT Type="x" Start="0" End="1" Step="1e-12"/>'),
    "pixels": _ome('SizeX="1000000" SizeY="1000000" SizeZ="2" SizeC="1" SizeT="1"'),
    "a page before the first": _ome(data='<TiffData IFD="-2" PlaneCount="2"/>'),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_ome_metadata_that_claim_work_are_refused_before_it_is_done(
    claim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, VOLUME[:2], photometric="minisblack", metadata=None, description=CLAIMS[claim])
    monkeypatch.setattr(tifffile.TiffFile, "series", property(lambda _: pytest.fail("tifffile read the claims")))
    with pytest.raises(FileError) as raised:
        open_stack(path)
    assert raised.value.path == path
    assert path.name in str(raised.value)


def _page(tags: dict[int, int]) -> bytes:
    entries = {258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 279: 8} | tags
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4)


PAGES: dict[str, Callable[[], bytes]] = {
    "a wide page": lambda: _page({256: 1 << 31, 257: 1, 278: 1}),
    "a large tile": lambda: _page({256: 64, 257: 64, 322: 1 << 16, 323: 1 << 16, 324: 8, 325: 8}),
    "samples": lambda: _page({256: 16_000, 257: 16_000, 277: 65_535, 278: 64}),
    "depth": lambda: _page({256: 64, 257: 64, 278: 64, 32997: 1 << 31}),
}


@pytest.mark.parametrize("kind", PAGES)
def test_pages_that_claim_memory_are_not_decoded_here(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(PAGES[kind]())
    assert not is_plain_tiff(path)
    with pytest.raises(FileError) as raised:
        list(open_stack(path, 0).slices())
    assert raised.value.path == path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("is_mask", [False, True])
def test_pipes_and_devices_are_not_waited_for(is_mask: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "endless.tif").symlink_to("/dev/zero")
    for name in ("pipe.tif", "endless.tif"):
        with pytest.raises(FileError, match="a device or a pipe"):
            open_stack(tmp_path / name, is_mask=is_mask)


@pytest.mark.parametrize("kind", ["zstd", "a directory below a page"])
def test_a_process_reads_files_larger_than_its_memory(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", **UNUSUAL[kind])
    lengthen(path, MAX_MEMORY + (1 << 30))
    assert not is_plain_tiff(path)
    np.testing.assert_array_equal(np.stack(list(open_stack(path).slices())), VOLUME)


def test_a_file_whose_last_directory_is_cut_is_not_plain(tmp_path: Path) -> None:
    """tifffile looks for its next page for ever, which fuzzing found: only a process that can be killed may open it."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), photometric="minisblack", metadata=None, software=False)
    data = path.read_bytes()
    (first,) = struct.unpack_from("<I", data, 4)
    (n_tags,) = struct.unpack_from("<H", data, first)
    end = first + 2 + 12 * n_tags
    assert is_plain_tiff(path)
    # The directory moves to the end of the file, where two of the four bytes that lead to the next are missing.
    path.write_bytes(data[:4] + struct.pack("<I", len(data)) + data[8:] + data[first:end] + b"\0\0")
    assert not is_plain_tiff(path)
