"""Draw a small synthetic study of four kidneys to try the commands on: python examples/make_stacks.py [FOLDER]

Of each kidney, such as P1_K4, it writes P1_K4.ome.tif, two channels with a pyramid of two levels; P1_K4_mask.tif, a mask of the
finer level; and P1_K4.csv, the class of most nuclei. With the extra `formats` it also writes P1_K4.ome.zarr, the DAPI channel of
the first kidney with its mask.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from nephros.data.synthetic import NUCLEUS_TYPES
from nephros.microscopy.synthetic import SyntheticStack

NAMES = ("P1_K4", "P2_K5", "P3_K6", "P4_K7")
SHAPE, VOXEL_SIZE = (10, 240, 280), (1.0, 0.25, 0.25)
LARGE_RADIUS = 6.5


def main(folder: str = "stacks") -> None:
    """Write the files of all kidneys into `folder`."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(NAMES):
        stack = SyntheticStack(SHAPE, VOXEL_SIZE, seed=seed)
        pixels, mask = (np.stack(part).astype(np.uint16) for part in zip(*stack.slices(), strict=True))
        write_ome_tiff(out / f"{name}.ome.tif", np.stack([pixels // 9, pixels], axis=1))
        tifffile.imwrite(out / f"{name}_mask.tif", mask, photometric="minisblack", compression="zlib")
        rows = [f"{i},{class_of(stack, i)}" for i in np.unique(mask)[1:].tolist() if i % 5]
        (out / f"{name}.csv").write_text("\n".join(["id,class", *rows]) + "\n")
        if name == NAMES[0] and importlib.util.find_spec("zarr") is not None:
            write_ome_zarr(out / f"{name}.ome.zarr", pixels, mask)


def class_of(stack: SyntheticStack, nucleus_id: int) -> str:
    """Return the class of a nucleus."""
    return "tubule" if NUCLEUS_TYPES[stack.nucleus_types[nucleus_id - 1]].radius >= LARGE_RADIUS else "leukocyte"


def write_ome_tiff(path: Path, pixels: NDArray[np.uint16]) -> None:
    """Write slices, channels, rows and columns, and a level with every second row and column."""
    sizes = {f"PhysicalSize{axis}": side for axis, side in zip("ZYX", VOXEL_SIZE, strict=True)}
    metadata: dict[str, Any] = {"axes": "ZCYX", "Channel": {"Name": ["autofluorescence", "DAPI"]}, **sizes}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, subifds=1, photometric="minisblack", compression="zlib", metadata=metadata)
        level = np.ascontiguousarray(pixels[..., ::2, ::2])
        file.write(level, subfiletype=1, photometric="minisblack", compression="zlib")


def write_ome_zarr(path: Path, pixels: NDArray[np.uint16], mask: NDArray[np.uint16]) -> None:
    """Write slices, rows and columns with their mask as a label image, as version 0.4 of OME-Zarr describes it."""
    import zarr

    store = zarr.open_group(str(path), mode="w", zarr_format=2)
    labels = store.create_group("labels")
    labels.attrs["labels"] = ["nuclei"]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": list(VOXEL_SIZE)}]
    for group, values in ((store, pixels), (labels.create_group("nuclei"), mask)):
        array = group.create_array("0", shape=values.shape, chunks=(5, 120, 140), dtype=values.dtype)
        array[:] = values
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="stacks", help="where to write the files (default: %(default)s)")
    main(parser.parse_args().folder)
