"""OME metadata that are only a pointer, incomplete or invalid: the pages are read all the same, and a note says so."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nephros.errors import FileError
from nephros.inference.reader import CellReader
from nephros.microscopy.detect import is_stack
from nephros.microscopy.ome import read_ome
from nephros.microscopy.reader import open_stack
from nephros.microscopy.stack import Stack

VOLUME = np.random.default_rng(0).integers(0, 4000, (6, 30, 32)).astype(np.uint16)
NAMESPACE = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
POINTER = f'<OME {NAMESPACE}><BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:1"/></OME>'


def pixels(
    *, sizes: str = 'SizeX="32" SizeY="30" SizeZ="6" SizeC="1" SizeT="1"', order: str = "XYZCT", data: str = ""
) -> str:
    return (
        f'<Image ID="Image:0" Name="kidney"><Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" {sizes} '
        f'PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="1">{data or "<TiffData/>"}</Pixels></Image>'
    )


def companion(*images: str) -> str:
    return f'<?xml version="1.0"?><OME {NAMESPACE} UUID="urn:uuid:9">{"".join(images)}</OME>'


def tiff_data(name: str, uuid: str, *, first_z: int = 0, n: int = 6) -> str:
    return (
        f'<TiffData IFD="0" FirstZ="{first_z}" FirstC="0" FirstT="0" PlaneCount="{n}">'
        f'<UUID FileName="{name}">{uuid}</UUID></TiffData>'
    )


def write(path: Path, description: str, volume: np.ndarray[Any, Any] = VOLUME) -> Path:
    tifffile.imwrite(path, volume, photometric="minisblack", metadata=None, description=description.encode())
    return path


def read(stack: Stack) -> np.ndarray[Any, Any]:
    return np.stack(list(stack.slices()))


COMPLETE = f"<OME {NAMESPACE}>{pixels()}</OME>"
UNUSABLE = {
    "only a pointer": POINTER,
    "not closed": f"<OME {NAMESPACE}><Image><Pixels></Image></OME>",
    "cut": COMPLETE[: len(COMPLETE) // 2],
    "cut at the end": COMPLETE[:-3],
    "an ampersand": COMPLETE.replace("kidney", "kidney & liver"),
    "an unknown prefix": f'<OME {NAMESPACE}><a:Image b:SizeZ="6"/></OME>',
    "no image": f"<OME {NAMESPACE}/>",
    "an image without pixels": f'<OME {NAMESPACE}><Image ID="Image:0"/></OME>',
    "annotations only": f"<OME {NAMESPACE}><StructuredAnnotations/></OME>",
    "no sizes": f"<OME {NAMESPACE}>{pixels(sizes='')}</OME>",
    "sizes that are no numbers": COMPLETE.replace('SizeX="32"', 'SizeX="wide"'),
    "an unknown order": f"<OME {NAMESPACE}>{pixels(order='XYQCT')}</OME>",
}  # fmt: skip


@pytest.mark.parametrize("kind", UNUSABLE)
def test_pages_are_slices_where_the_metadata_cant_be_used(kind: str, tmp_path: Path) -> None:
    stack = open_stack(write(tmp_path / "a.ome.tif", UNUSABLE[kind]))
    assert np.array_equal(read(stack), VOLUME)
    assert stack.voxel_size is None
    (note,) = stack.notes
    assert note.startswith("a.ome.tif: its OME metadata")
    assert "taken for the slices" in note


def test_complete_metadata_need_no_note(tmp_path: Path) -> None:
    for k, xml in enumerate((COMPLETE, "\ufeff" + COMPLETE, f'<?xml version="1.0" encoding="ISO-8859-1"?>{COMPLETE}')):
        stack = open_stack(write(tmp_path / f"{k}.ome.tif", xml))
        assert (stack.notes, stack.voxel_size) == ((), (1, 0.5, 0.5))
    assert read_ome(tmp_path / "a.tif", "ImageJ=1.53t\nimages=6\n") == (None, "")
    assert read_ome(tmp_path / "a.tif", "") == (None, "")


def test_a_companion_file_beside_the_stack_is_used(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", POINTER)
    other = pixels(data=tiff_data("b.ome.tif", "urn:uuid:2")).replace("kidney", "liver")
    (tmp_path / "set.companion.ome").write_text(companion(other, pixels(data=tiff_data("a.ome.tif", "urn:uuid:1"))))
    stack = open_stack(path)
    assert (stack.notes, stack.voxel_size) == ((), (1, 0.5, 0.5))
    assert np.array_equal(read(stack), VOLUME)
    with path.open("rb") as file:
        assert is_stack(file, path)  # though its pages are small
    renamed = path.rename(tmp_path / "renamed.tif")
    assert open_stack(renamed).voxel_size == (1, 0.5, 0.5)  # by its UUID


def test_a_companion_that_spreads_a_stack_over_files_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", POINTER, VOLUME[:3])
    data = tiff_data("a.ome.tif", "urn:uuid:1", n=3) + tiff_data("b.ome.tif", "urn:uuid:2", first_z=3, n=3)
    (tmp_path / "set.companion.ome").write_text(companion(pixels(data=data)))
    with pytest.raises(FileError, match=r"a\.ome\.tif is one file of several: .* b\.ome\.tif"):
        open_stack(path)


@pytest.mark.parametrize(
    "content", ["", "<OME", companion(), companion(pixels(data=tiff_data("other.tif", "urn:uuid:7"))), "cells"]
)
def test_a_companion_that_doesnt_name_the_file_is_noted(content: str, tmp_path: Path) -> None:
    (tmp_path / "set.companion.ome").write_text(content)
    stack = open_stack(write(tmp_path / "a.ome.tif", POINTER))
    assert np.array_equal(read(stack), VOLUME)
    assert "set.companion.ome" in stack.notes[0] or "name no image" in stack.notes[0]


def test_a_companion_outside_the_folder_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    xml = companion(pixels(data=tiff_data("a.ome.tif", "urn:uuid:1")))
    (tmp_path / "set.companion.ome").write_text(xml)
    pointer = POINTER.replace("set.companion.ome", "../set.companion.ome")
    assert open_stack(write(tmp_path / "inside" / "a.ome.tif", pointer)).voxel_size is None


@pytest.mark.parametrize("kind", ["only a pointer", "not closed", "no image"])
def test_small_pages_are_cells_and_a_note_says_so(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "cells.ome.tif", UNUSABLE[kind], (VOLUME[:3] // 16).astype(np.uint8))
    reader = CellReader([path], (1, 28, 28))
    assert sum(len(rows) for rows, _ in reader.iter_batches()) == 3
    assert not reader.errors
    assert any("cells.ome.tif has OME metadata" in note for note in reader.input_notes)
    tifffile.imwrite(tmp_path / "one.ome.tif", np.zeros((28, 28), np.uint8), description=UNUSABLE[kind], metadata=None)
    reader = CellReader([tmp_path / "one.ome.tif"], (1, 28, 28))
    assert sum(len(rows) for rows, _ in reader.iter_batches()) == 1
    assert not any("OME" in note for note in reader.input_notes)
    assert not is_stack(io.BytesIO((tmp_path / "one.ome.tif").read_bytes()))
