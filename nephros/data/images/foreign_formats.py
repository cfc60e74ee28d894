"""Formats that nephros doesn't read: recognized by a file's first bytes, and named with the way to convert them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HEAD_BYTES = 1024
"""First bytes of a file that `foreign_format` looks at."""


@dataclass(frozen=True)
class ForeignFormat:
    """A format that nephros doesn't read."""

    name: str
    """With an article, such as ``a Zeiss CZI file``."""
    advice: str
    """How to convert it, as an imperative."""

    def message(self, file_name: object) -> str:
        """Return the sentence for a file of this format."""
        return f"{file_name} is {self.name}, which is not read here; {self.advice}."


_FROM_MICROSCOPE = "save it as OME-TIFF with the microscope's software, or with Bio-Formats in Fiji"
_AS_IMAGE = "save it as PNG or TIFF"
_AS_OME_TIFF = "save one channel of it as OME-TIFF"
_FROM_FIJI = "open it in Fiji and save it as OME-TIFF"
_UNPACK = "unpack it and name the files or the folder"
_ARRAYS = "save cells as an npz file (`numpy.savez(FILE, images=CELLS)`), or a stack as OME-TIFF"
_SLIDE = "export the region with the nuclei as TIFF, for example with QuPath"

_PREFIXES: tuple[tuple[bytes, str, str], ...] = (
    (b"ZISRAWFILE", "a Zeiss CZI file", _FROM_MICROSCOPE),
    (b"\xda\xce\xbe\x0a", "a Nikon ND2 file", _FROM_MICROSCOPE),
    (b"Andor Technology", "an Andor SIF file", _FROM_MICROSCOPE),
    (b"OLYMPUSRAWFORMAT", "an Olympus OIR file", _FROM_MICROSCOPE),
    (b"OMAS_BF_", "an Imspector OBF or MSR file", _FROM_MICROSCOPE),
    (b"SIS\0", "an Olympus ETS file", _FROM_MICROSCOPE),
    (b"IIII", "a Leica LEI file", _FROM_MICROSCOPE),
    (b"\xff\xfe[\0", "a settings file in UTF-16, such as an Olympus OIF file", _FROM_MICROSCOPE),
    (b"NRRD0", "an NRRD file", _FROM_FIJI),
    (b"ObjectType", "a MetaImage file", _FROM_FIJI),
    (b"# Amira", "an Amira file", _FROM_FIJI),
    (b"# Avizo", "an Avizo file", _FROM_FIJI),
    (b"ics_version", "an ICS file", _FROM_FIJI),
    (b"\tics_version", "an ICS file", _FROM_FIJI),
    (b"SIMPLE  =", "a FITS file", _FROM_FIJI),
    (b"GIF8", "a GIF image", _AS_IMAGE),
    (b"BM", "a BMP image", _AS_IMAGE),
    (b"8BPS", "a Photoshop file", _AS_IMAGE),
    (b"v/1\x01", "an OpenEXR image", _AS_IMAGE),
    (b"\xff\x0a", "a JPEG XL image", _AS_IMAGE),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image", _AS_IMAGE),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image, or a Nikon ND2 file of an old version", _FROM_MICROSCOPE),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image", _AS_IMAGE),
    (b"P4\n", "a PBM image", _AS_IMAGE),
    (b"P5\n", "a PGM image", _AS_IMAGE),
    (b"P6\n", "a PPM image", _AS_IMAGE),
    (b"P7\n", "a PAM image", _AS_IMAGE),
    (b"II\xbc\x01", "a JPEG XR image", _AS_IMAGE),
    (b"\0\0\x01\0", "an icon", _AS_IMAGE),
    (b"\x00\x05\x16\x07", "a macOS resource file without the image itself", "copy the file of the same name without ._"),
    (b"\x89PNG\n", "a PNG image that a transfer in text mode has changed", "copy it again in binary mode"),
    (b"\x89PNG\r\r", "a PNG image that a transfer in text mode has changed", "copy it again in binary mode"),
    (b"\x93NUMPY", "a single .npy array", _ARRAYS),
    (b"\x89HDF", "an HDF5 file", _ARRAYS),
    (b"MATLAB 7.3", "a MATLAB file (HDF5)", _ARRAYS),
    (b"MATLAB 5.0", "a MATLAB file", _ARRAYS),
    (b"PAR1", "a Parquet table", _ARRAYS),
    (b"SQLite format 3", "an SQLite database", _ARRAYS),
    (b"%PDF", "a PDF", "export its images as PNG or TIFF"),
    (b"%!PS", "PostScript or EPS", "export its images as PNG or TIFF"),
    (b"\xc5\xd0\xd3\xc6", "PostScript or EPS", "export its images as PNG or TIFF"),
    (b"bplist00", "a property list of macOS, such as iCloud's placeholder of a file", "download the file itself"),
    (b'{"', "JSON text: perhaps an error message in place of the file", "download it again"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file itself", "run git lfs pull"),
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x80", "a pickle, which is never opened, or unknown data", _ARRAYS),
)  # fmt: skip
"""First bytes, the format's name, and how to convert it."""

_LATER_BYTES: tuple[tuple[int, bytes, str, str], ...] = (
    (128, b"DICM", "a DICOM file", _FROM_FIJI),
    (344, b"n+1\0", "a NIfTI file", _FROM_FIJI),
    (344, b"ni1\0", "a NIfTI header", _FROM_FIJI),
    (4, b"n+2\0", "a NIfTI-2 file", _FROM_FIJI),
    (208, b"MAP ", "an MRC file", _FROM_FIJI),
    (257, b"ustar", "a tar archive", _UNPACK),
    (96, b"\xa0\xc0", "a DeltaVision file", _FROM_MICROSCOPE),
    (96, b"\xc0\xa0", "a DeltaVision file", _FROM_MICROSCOPE),
    (54, b"\x39\x30", "a Bio-Rad PIC file", _FROM_MICROSCOPE),
)
"""Bytes at an offset, for formats whose first bytes vary; the shortest, which chance may produce, last."""

_HDF5_NAMES = {".ims": "an Imaris file (HDF5)", ".mat": "a MATLAB file (HDF5)", ".h5ad": "an AnnData table (HDF5)"}
_ZIP_MEMBERS: tuple[tuple[bytes, str, str], ...] = (
    (b".npy", "an npz file under another name", "rename it to end in .npz"),
    (b".npz", "a zip archive with npz files", _UNPACK),
    (b"data.pkl", "a PyTorch file", "name the images here, and the model as `model`"),
    (b".zarray", "a zipped Zarr array", _AS_OME_TIFF),
    (b".zgroup", "a zipped Zarr array", _AS_OME_TIFF),
    (b"zarr.json", "a zipped Zarr array", _AS_OME_TIFF),
    (b".roi", "a set of ImageJ regions", "name the image that they belong to"),
    (b"[Content_Types].xml", "an Office document", "export its images as PNG or TIFF"),
)
"""End of the name of a zip archive's first member."""
_SUFFIXES = {
    ".c01": ForeignFormat("a Cellomics image", _FROM_MICROSCOPE),
    **dict.fromkeys((".sld", ".sldy"), ForeignFormat("a SlideBook file", _FROM_MICROSCOPE)),
    **dict.fromkeys((".xlef", ".xlif", ".xlcf", ".lof"), ForeignFormat("a Leica LAS X file", _FROM_MICROSCOPE)),
    **dict.fromkeys((".mvd2", ".acff"), ForeignFormat("a Volocity file", _FROM_MICROSCOPE)),
    ".isyntax": ForeignFormat("a Philips whole slide (iSyntax)", _SLIDE),
    ".klb": ForeignFormat("a KLB file", _FROM_FIJI),
    ".ids": ForeignFormat("the pixels of an ICS file", _FROM_FIJI),
    ".tga": ForeignFormat("a Targa image", _AS_IMAGE),
}
"""Suffixes of formats that their first bytes don't tell."""
_JPEG_2000_SUFFIXES = (".jp2", ".jpx", ".jpf", ".j2k")
_TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".yaml", ".yml", ".md", ".log", ".py", ".ini", ".xml")
_OLE_SUFFIXES = {
    ".oib": ForeignFormat("an Olympus OIB file", _FROM_MICROSCOPE),
    ".zvi": ForeignFormat("a Zeiss ZVI file", _FROM_MICROSCOPE),
    ".db": ForeignFormat("a database of thumbnails that Windows keeps in folders of images", "leave it out"),
    ".xls": ForeignFormat("an Excel workbook", "save its sheet as CSV"),
}
_ZIP_SUFFIXES = {
    ".npz": ForeignFormat("an npz file", "save the array by itself, with numpy.save, or as TIFF"),
    ".xlsx": ForeignFormat("an Excel workbook", "save its sheet as CSV"),
}
_OVERVIEWS = {
    ".vsi": ForeignFormat("an Olympus VSI file, whose pixels are in the folder beside it", _FROM_MICROSCOPE),
    ".mrxs": ForeignFormat("the overview of a MIRAX whole slide, whose pixels are in the folder beside it", _SLIDE),
}
"""Suffixes of files whose pixels are in the folder beside them."""


def foreign_format(head: bytes, file_name: object = "") -> ForeignFormat | None:
    """Return the format of a file that begins with `head`, or None where it is unknown.

    Args:
        head: at least the first HEAD_BYTES bytes of the file, or all of a shorter one.
        file_name: its suffix tells formats apart that share their first bytes.
    """
    suffix = Path(str(file_name)).suffix.lower()
    if head.startswith(b"\x89HDF"):
        return ForeignFormat(_HDF5_NAMES.get(suffix, "an HDF5 file"), _FROM_FIJI if suffix == ".ims" else _ARRAYS)
    if head.startswith(b"PK"):
        return _ZIP_SUFFIXES.get(suffix) or _zip_format(head)
    if head.startswith(b"\x70\0\0\0") and head[8:9] == b"\x2a":
        return ForeignFormat("a Leica LIF file", _FROM_MICROSCOPE)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return _OLE_SUFFIXES.get(suffix) or ForeignFormat(
            "an OLE2 file, such as Olympus OIB, Zeiss ZVI or an old Office document", _FROM_MICROSCOPE
        )
    if head.startswith(b"RIFF"):
        names = {b"WEBP": "a WebP image", b"AVI ": "an AVI video"}
        return ForeignFormat(names.get(head[8:12], "a WebP image, or sound"), _AS_IMAGE)
    if head[4:8] == b"ftyp":
        names = {b"hei": "a HEIC image", b"hev": "a HEIC image", b"mif": "a HEIC image", b"avi": "an AVIF image"}
        return ForeignFormat(names.get(head[8:11], "a video"), _AS_IMAGE)
    if head[:4] in (b"\0\0\0\3", b"\0\0\0\4") and len(head) > 16:
        return ForeignFormat("a Gatan DM3 or DM4 file", _FROM_FIJI)
    if suffix in _JPEG_2000_SUFFIXES and head.startswith(b"\0\0\0\x0cjP  "):
        return ForeignFormat("a JPEG 2000 image", _AS_IMAGE)
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<"):
        return _markup_format(text[:HEAD_BYTES].lower())
    for prefix, name, advice in _PREFIXES:
        if head.startswith(prefix) or text.startswith(prefix):
            return ForeignFormat(name, advice)
    for offset, content, name, advice in _LATER_BYTES:
        if head[offset : offset + len(content)] == content:
            return ForeignFormat(name, advice)
    return ForeignFormat("a text file", "name the images that it is about") if suffix in _TEXT_SUFFIXES else None


def _zip_format(head: bytes) -> ForeignFormat:
    member = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    for ending, name, advice in _ZIP_MEMBERS:
        if member.endswith(ending):
            return ForeignFormat(name, advice)
    return ForeignFormat("a zip archive", _UNPACK)


def _markup_format(text: bytes) -> ForeignFormat:
    if b"<ome" in text or b":ome" in text:
        return ForeignFormat("OME-XML, the metadata of a set", "name the set's TIFF files")
    if text.startswith((b"<!doctype html", b"<html")):
        return ForeignFormat(
            "text such as SVG, XML or HTML: a web page, perhaps of a failed download", "download it again"
        )
    return ForeignFormat("text such as SVG, XML or HTML", _AS_IMAGE)


def overview_format(file_name: object) -> ForeignFormat | None:
    """Return the format of a file that is a readable TIFF or JPEG, but only an overview of its pixels, by its suffix."""
    return _OVERVIEWS.get(Path(str(file_name)).suffix.lower())


def folder_format(path: Path) -> ForeignFormat | None:
    """Return the format of a folder that is one image as a whole, such as Zarr, or None where it is no such folder."""
    if path.suffix.lower() in (".zarr", ".n5") or any(
        os.path.exists(path / name) for name in (".zgroup", ".zarray", "zarr.json")
    ):
        return ForeignFormat("a Zarr or N5 folder", f"{_AS_OME_TIFF}, for example with Fiji")
    if path.name.lower().endswith(".oif.files"):
        return ForeignFormat("the folder of an Olympus OIF file", _FROM_MICROSCOPE)
    if os.path.exists(path / "Slidedat.ini"):
        return ForeignFormat("the folder of a MIRAX whole slide", _SLIDE)
    return None
