"""OME metadata of a TIFF file: which images they name, and where the planes of each are."""

from __future__ import annotations

import contextlib
import copy
import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from nephros.errors import FileError

_MAX_COMPANION_BYTES = 64 << 20
"""Largest companion file that is read."""


@dataclass(frozen=True)
class DeclaredImage:
    """An image that the metadata of a file name."""

    name: str
    shape: tuple[int, ...]
    """Sizes of its axes, without those of length 1 before the last two."""
    n_slices: int


@dataclass(frozen=True)
class OmeMetadata:
    """OME metadata with at least one image whose sizes they state."""

    root: ElementTree.Element
    images: list[DeclaredImage]
    is_external: bool
    """Whether they come from a companion file."""

    @property
    def locates_pixels(self) -> bool:
        """Whether they say where in the file an image is; some programs leave that out."""
        pixels = [child for image in _children(self.root, "Image") for child in _children(image, "Pixels")]
        return any(_children(element, "TiffData") for element in pixels)

    def n_claimed_planes(self, index: int, n_pages: int) -> int:
        """Return the planes of the image at `index` by what claims the most: its sizes, or all TiffData elements together.

        ModuloAlong annotations, which split an axis, count as planes, too; an element without a number stands for all pages.
        """
        image = _children(self.root, "Image")[index]
        (pixels, *_) = _children(image, "Pixels")
        n_planes, n_located = 1, 0
        for axis in "TCZ":
            n_planes *= int(pixels.get(f"Size{axis}") or 1)
        for data in _children(pixels, "TiffData"):
            number = data.get("PlaneCount") or data.get("NumPlanes") or ("1" if "IFD" in data.attrib else "0")
            firsts = [_integer(data.get(f"First{axis}")) for axis in "TCZ"]
            n_located += max(_integer(number) or n_pages, *firsts)
        return max(n_planes, n_located, self._n_modulo_planes())

    def has_negative_places(self, index: int) -> bool:
        """Return whether a place or number of planes of the image at `index` is negative, which tifffile counts from the end."""
        (pixels, *_) = _children(_children(self.root, "Image")[index], "Pixels")
        return any(
            _integer(data.get(key)) < 0
            for data in _children(pixels, "TiffData")
            for key in ("IFD", "FirstT", "FirstC", "FirstZ", "PlaneCount", "NumPlanes")
        )

    def _n_modulo_planes(self) -> int:
        """Return how many planes ModuloAlong annotations claim; their ranges are numbers with any step."""
        n_planes = 1.0
        for element in self.root.iter():
            if element.tag.rpartition("}")[2].startswith("ModuloAlong"):
                with contextlib.suppress(ValueError, KeyError, ZeroDivisionError):
                    step, start, end = (
                        float(element.get("Step", 1)),
                        float(element.attrib["Start"]),
                        float(element.attrib["End"]),
                    )
                    n_planes = max(n_planes, (end - start) / step + 1)
        return int(min(n_planes, 2**62))

    def text_for(self, index: int, path: Path) -> str:
        """Return XML that names only the image at `index`, in this file; empty where the file's own XML does that.

        Raises:
            FileError: planes of this image are in other files.
        """
        root = copy.deepcopy(self.root)
        is_edited = _keep_image(path, root, index)
        return ElementTree.tostring(root, encoding="unicode") if is_edited or self.is_external else ""


def read_ome(path: Path, description: str) -> tuple[OmeMetadata | None, str]:
    """Read the OME metadata of a TIFF file.

    Args:
        path: the file; where its metadata are only a pointer to a companion file, that is looked for beside it.
        description: of its first page.

    Returns:
        The metadata, or None where there are none or they can't be used; and why they can't be used, if there are any.
    """
    if "<OME" not in description[:2000] and ":OME" not in description[:2000]:
        return None, ""
    root = _parse(description)
    if root is None:
        return None, "its OME metadata are not valid XML"
    pointers = _children(root, "BinaryOnly")
    if pointers:
        companion_name = PureWindowsPath(pointers[0].get("MetadataFile") or "another file").name
        root = _companion(path, companion_name, pointers[0].get("UUID"))
        if root is None:
            return None, f"its OME metadata are in {companion_name}, which is not beside it or doesn't name it"
    try:
        images = [_declared(element) for element in _children(root, "Image")]
    except (ValueError, TypeError):
        return None, "its OME metadata don't state the sizes of its image"
    if not images:
        return None, "its OME metadata name no image"
    return OmeMetadata(root, images, bool(pointers)), ""


def _parse(text: str | bytes) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None


def _integer(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Return the children of that name in any namespace; images without Pixels don't count."""
    children = [child for child in element if child.tag.rpartition("}")[2] == name]
    return [child for child in children if name != "Image" or _children(child, "Pixels")]


def _declared(image: ElementTree.Element) -> DeclaredImage:
    pixels = _children(image, "Pixels")[0]
    t, c, z = (int(pixels.get(f"Size{axis}") or 1) for axis in "TCZ")
    y, x = (int(pixels.get(f"Size{axis}") or "") for axis in "YX")
    if min(t, c, z, y, x) < 1 or sorted(pixels.get("DimensionOrder") or "XYZCT") != sorted("XYZCT"):
        raise ValueError(pixels.attrib)
    return DeclaredImage(image.get("Name") or "", (*(size for size in (t, c, z) if size > 1), y, x), z)


def companion_text(description: str, path: Path | None) -> str:
    """Return the companion file beside `path` that a description only points to; the description where there is none."""
    match = re.search(r"<(?:\w+:)?BinaryOnly\b[^>]*\bMetadataFile\s*=\s*[\"']([^\"']{1,255})[\"']", description)
    if match is None or path is None:
        return description
    return _read_companion(path, PureWindowsPath(match[1]).name).decode("utf-8", "replace") or description


def _read_companion(path: Path, companion_name: str) -> bytes:
    """Return the content of a companion file beside `path`; empty where there is none, or one far too large."""
    try:
        companion = path.with_name(companion_name)
        return companion.read_bytes() if companion.stat().st_size <= _MAX_COMPANION_BYTES else b""
    except (OSError, ValueError):
        return b""


def _companion(path: Path, companion_name: str, uuid: str | None) -> ElementTree.Element | None:
    """Return the metadata of a set, reduced to the images with planes in this file of it; None where there are none."""
    root = _parse(_read_companion(path, companion_name))
    if root is None:
        return None
    for image in _children(root, "Image"):
        references = [element for element in image.iter() if element.tag.rpartition("}")[2] == "UUID"]
        if not any(_is_this_file(element, path, {uuid}) for element in references):
            root.remove(image)
    if uuid:
        root.set("UUID", uuid)
    return root


def _is_this_file(reference: ElementTree.Element, path: Path, uuids: set[str | None]) -> bool:
    """Return whether the UUID element of a TiffData element means this file, by its name or one of its UUIDs."""
    return reference.text in uuids - {None} or (reference.get("FileName") or "").lower() == path.name.lower()


def _keep_image(path: Path, root: ElementTree.Element, index: int) -> bool:
    """Remove all images but one from OME metadata, and return whether that or a reference to a file changed them.

    Raises:
        FileError: planes of this image are in other files.
    """
    images = _children(root, "Image")
    references = [element for element in root.iter() if element.tag.rpartition("}")[2] == "UUID"]
    uuids = {root.get("UUID"), *(element.text for element in references if _is_this_file(element, path, set()))}
    if len({element.text for element in references}) == 1:  # one file under another name
        uuids.add(references[0].text)
    for image in images:
        if image is not images[index]:
            root.remove(image)
    other_names: list[str] = []
    for pixels in _children(images[index], "Pixels"):
        for data in _children(pixels, "TiffData"):
            for reference in _children(data, "UUID"):
                if reference.text in uuids - {None}:
                    data.remove(reference)
                else:
                    other_names.append(reference.get("FileName") or str(reference.text))
    if other_names:
        names = sorted(set(other_names))
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        raise FileError(
            path,
            f"{path} is one file of several: planes of its image {index} are in {names[0]}{more}; save the stack as one file.",
        )
    return len(images) > 1 or any(element.text != root.get("UUID") for element in references)
