"""Files of microscopes' software for tests.

CZI files are written by Zeiss' own library, and IMS files by HDF5's. ND2 and LIF have no writer: these files are laid out here
after what the libraries that read them document, with the parts that they need.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.synthetic import SyntheticStack

VOXEL_SIZE = (1.0, 0.5, 0.5)
CHANNELS = ("GFP", "DAPI")
_ROOM = 500
"""Length of a CZI file's title, in whose place other metadata go."""
_FAR = 1_000_000
"""Place of a CZI file's pyramid levels, times their step, until they are moved over the image."""
SIGNATURE, MAP_NAME, MAP_SIGNATURE = (
    b"ND2 FILE SIGNATURE CHUNK NAME01!",
    b"ND2 FILEMAP SIGNATURE NAME 0001!",
    b"ND2 CHUNK MAP SIGNATURE 0000001!",
)


def tissue(shape: tuple[int, int, int] = (8, 64, 64)) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return two channels (c, z, y, x), the second of nuclei, and their mask (z, y, x)."""
    pixels, mask = (np.stack(part) for part in zip(*SyntheticStack(shape).slices(), strict=True))
    return np.stack([np.full_like(pixels, 9), pixels]).astype(np.uint16), mask.astype(np.uint16)


def write_czi(
    path: Path,
    scenes: Sequence[NDArray[Any]],
    *,
    channels: Sequence[str] = CHANNELS,
    voxel_size: Sequence[float] = VOXEL_SIZE,
    skipped_slices: Sequence[int] = (),
    scene_names: Sequence[str] = (),
    steps: Sequence[int] = (),
    **options: Any,
) -> Path:
    """Write scenes (t, c, z, y, x), side by side; each of `steps` is a pyramid level of a single scene's planes.

    The library writes no pyramids, so that the tiles of a level are written elsewhere. Their place and size in the image, which a
    file states beside the size of their pixels, are changed afterwards.
    """
    from pylibCZIrw import czi

    with czi.create_czi(str(path), **options) as file:
        left = 0
        for scene, values in enumerate(scenes):
            for t, c, z in np.ndindex(*values.shape[:3]):
                if z not in skipped_slices:
                    plane = {"T": t, "C": c, "Z": z}
                    file.write(values[t, c, z, ..., None], location=(left, 0), plane=plane, scene=scene)
                    for step in steps:
                        level = np.ascontiguousarray(values[t, c, z, ::step, ::step, None])
                        file.write(level, location=(_FAR * step, _FAR * step), plane=plane, scene=scene)
            left += values.shape[-1] + 10
        z_um, y_um, x_um = (side * 1e-6 for side in voxel_size)
        file.write_metadata(
            "x" * _ROOM, channel_names=dict(enumerate(channels)), scale_x=x_um, scale_y=y_um, scale_z=z_um
        )
    for step in steps:
        for axis, n in zip((b"Y", b"X"), scenes[0].shape[-2:], strict=True):
            entry, moved = (struct.pack("<4sii", axis, *place) for place in ((_FAR * step, -(-n // step)), (0, n)))
            path.write_bytes(path.read_bytes().replace(entry, moved))
    if scene_names:  # which ZEN writes, and pylibCZIrw does not
        items = "".join(f'<Scene Index="{index}" Name="{name}"/>' for index, name in enumerate(scene_names))
        scenes_xml = f"<S><Scenes>{items}</Scenes></S></Dimensions>".encode()
        data = path.read_bytes().replace(b"</Dimensions>", scenes_xml)
        path.write_bytes(data.replace(b"x" * _ROOM, b"x" * (_ROOM - len(scenes_xml) + len(b"</Dimensions>"))))
    return path


def write_ims(
    path: Path,
    values: NDArray[Any],
    *,
    channels: Sequence[str] = CHANNELS,
    extent: Sequence[float] | None = None,
    unit: str = "um",
    chunks: tuple[int, int, int] = (4, 32, 32),
    size: Mapping[str, int] | None = None,
    steps: Sequence[int] = (1,),
) -> Path:
    """Write (t, c, z, y, x) as Imaris does: sizes rounded up to whole chunks, attributes as arrays of letters.

    Each of `steps` is a resolution level with every so-many-th row and column.
    """
    import h5py

    def letters(text: object) -> NDArray[Any]:
        return np.frombuffer(str(text).encode(), dtype="S1")

    shape = values.shape[2:]
    extent = extent or [side * n for side, n in zip(VOXEL_SIZE, shape, strict=True)]
    with h5py.File(path, "w") as file:
        info = file.create_group("DataSetInfo/Image").attrs
        for index, axis in enumerate("ZYX"):
            info[axis] = letters((size or {}).get(axis, shape[index]))
            info[f"ExtMin{2 - index}"], info[f"ExtMax{2 - index}"] = letters(10.0), letters(10.0 + extent[index])
        info["Unit"], info["Name"] = letters(unit), letters("kidney")
        for c, name in enumerate(channels):
            file.create_group(f"DataSetInfo/Channel {c}").attrs["Name"] = letters(name)
        for level, step in enumerate(steps):
            for t, c in np.ndindex(*values.shape[:2]):
                pixels = values[t, c, :, ::step, ::step]
                padded = [(0, -n % side) for n, side in zip(pixels.shape, chunks, strict=True)]
                group = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint {t}/Channel {c}")
                group.create_dataset("Data", data=np.pad(pixels, padded), chunks=chunks, compression="gzip")
                for axis, n in zip("ZYX", pixels.shape, strict=True):
                    group.attrs[f"ImageSize{axis}"] = letters(n)
    return path


def lif_image(
    name: str, values: NDArray[Any], block: str, channels: Sequence[str] = CHANNELS, voxel_size: Sequence[float] = VOXEL_SIZE,
    **changes: object,
) -> str:  # fmt: skip
    """Return the XML element of an image (t, c, z, y, x); `changes` replace numbers of elements by axis."""
    itemsize = values.dtype.itemsize
    n_t, n_c, n_z, n_y, n_x = values.shape
    steps = {"X": itemsize, "Y": n_x * itemsize, "Z": n_c * n_y * n_x * itemsize, "T": n_z * n_c * n_y * n_x * itemsize}
    ids, sizes = {"X": 1, "Y": 2, "Z": 3, "T": 4}, {"X": n_x, "Y": n_y, "Z": n_z, "T": n_t}
    sides = dict(zip("ZYX", voxel_size, strict=True))
    dimensions = "".join(
        f'<DimensionDescription DimID="{ids[axis]}" NumberOfElements="{changes.get(axis, size)}" Origin="0" '
        f'Length="{(size - 1) * sides.get(axis, 1e6) * 1e-6}" Unit="{"s" if axis == "T" else "m"}" BitInc="0" '
        f'BytesInc="{steps[axis]}"/>'
        for axis, size in sizes.items()
    )
    described = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{8 * itemsize}" NameOfMeasuredQuantity="" Min="0" '
        f'Max="1" Unit="" LUTName="Gray" IsLUTInverted="0" BytesInc="{c * n_y * n_x * itemsize}" BitInc="0">'
        f"<ChannelProperty><Key>DyeName</Key><Value>{channels[c]}</Value></ChannelProperty></ChannelDescription>"
        for c in range(n_c)
    )
    return (
        f'<Element Name="{name}"><Memory Size="{values.nbytes}" MemoryBlockID="{block}"/><Data><Image><ImageDescription>'
        f"<Channels>{described}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data></Element>"
    )


def write_lif(path: Path, images: Mapping[str, NDArray[Any]], **changes: Any) -> Path:
    """Write images (t, c, z, y, x) of these names."""
    elements = "".join(
        lif_image(name, values, f"MemBlock_{i}", **changes) for i, (name, values) in enumerate(images.items())
    )
    blocks = [(f"MemBlock_{i}", np.moveaxis(values, 1, 2).tobytes()) for i, values in enumerate(images.values())]
    return write_lif_parts(path, elements, blocks)


def write_lif_parts(path: Path, elements: str, blocks: Sequence[tuple[str, bytes]]) -> Path:
    """Write a file with these XML elements and blocks of pixels."""
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="kidney"><Data/><Memory Size="0" MemoryBlockID="MemBlock_x"/>'
        f"<Children>{elements}</Children></Element></LMSDataContainerHeader>"
    )
    with open(path, "wb") as file:
        file.write(struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)) + xml.encode("utf-16-le"))
        for name, data in blocks:
            header = struct.pack("<IIBQBI", 0x70, 2 * len(name) + 14, 0x2A, len(data), 0x2A, len(name))
            file.write(header + name.encode("utf-16-le") + data)
    return path


def _xml(values: Mapping[str, Any]) -> str:
    types = {int: "lx_uint32", float: "double", str: "CLxStringW", bool: "bool"}
    return "".join(
        f'<{key} runtype="CLxListVariant">{_xml(value)}</{key}>'
        if isinstance(value, Mapping)
        else f'<{key} runtype="{types[type(value)]}" value="{str(value).lower() if isinstance(value, bool) else value}"/>'
        for key, value in values.items()
    )


def write_nd2(
    path: Path,
    values: NDArray[Any],
    *,
    channels: Sequence[str] = CHANNELS,
    voxel_size: Sequence[float] = VOXEL_SIZE,
    skipped_frames: Sequence[int] = (),
    is_calibrated: bool = True,
    n_slices: int | None = None,
    **attributes: int,
) -> Path:
    """Write (t, p, c, z, y, x) as version 2.1, whose metadata are XML; each frame holds all channels of a slice."""
    n_t, n_p, n_c, n_z, n_y, n_x = values.shape
    itemsize = values.dtype.itemsize
    described = {
        "uiWidth": n_x, "uiWidthBytes": n_x * n_c * itemsize, "uiHeight": n_y, "uiComp": n_c, "uiBpcInMemory": 8 * itemsize,
        "uiBpcSignificant": 8 * itemsize, "uiSequenceCount": n_t * n_p * n_z, "eCompression": 2, **attributes,
    }  # fmt: skip
    probe = {"m_sName": "dye", "m_ExcitationSpectrum": {"uiCount": 1}}
    planes = {
        f"a{c}": {"uiCompCount": 1, "sDescription": name, "pFluorescentProbe": probe} for c, name in enumerate(channels)
    }
    metadata = {
        "bCalibrated": is_calibrated, "dCalibration": float(voxel_size[2]),
        "sPicturePlanes": {"uiCount": n_c, "sPlaneNew": planes},
    }  # fmt: skip
    points = {f"i{p:010}": {"dPosX": 0.0, "dPosName": f"position {p}"} for p in range(n_p)}
    z_loop = {"eType": 4, "uLoopPars": {"uiCount": n_slices or n_z, "dZStep": float(voxel_size[0])}}
    p_loop = {"eType": 2, "uLoopPars": {"Points": points}, "ppNextLevelEx": {"i0000000000": z_loop}}
    t_pars = {"uiCount": n_t, "dStart": 0.0, "dPeriod": 1.0, "dDuration": 1.0}
    t_loop = {"eType": 1, "uLoopPars": t_pars, "ppNextLevelEx": {"i0000000000": p_loop}}
    chunks: list[tuple[bytes, bytes]] = [
        (b"ImageAttributes!", _variant(described)),
        (b"ImageMetadataSeq|0!", _variant(metadata)),
        (b"ImageMetadata!", _variant(t_loop)),
    ]
    for index, (t, p, z) in enumerate(np.ndindex(n_t, n_p, n_z)):
        if index not in skipped_frames:
            frame = np.moveaxis(values[t, p, :, z], 0, -1)
            chunks.append((f"ImageDataSeq|{index}!".encode(), bytes(8) + frame.tobytes()))
    with open(path, "wb") as file:
        file.write(struct.pack("<IIQ", 0x0ABECEDA, 32, 64) + SIGNATURE + b"Ver2.1".ljust(64, b"\0"))
        places = b""
        for name, data in chunks:
            places += name + struct.pack("<QQ", file.tell(), len(data))
            file.write(struct.pack("<IIQ", 0x0ABECEDA, 4072, len(data)) + name.ljust(4072, b"\0") + data)
        start = file.tell()
        places += MAP_SIGNATURE + struct.pack("<QQ", start, 0)
        file.write(struct.pack("<IIQ", 0x0ABECEDA, 32, len(places)) + MAP_NAME + places)
        file.write(MAP_SIGNATURE + struct.pack("<Q", start))
    return path


def _variant(values: Mapping[str, Any]) -> bytes:
    return f'<variant version="1.0"><no_name runtype="CLxListVariant">{_xml(values)}</no_name></variant>'.encode()
