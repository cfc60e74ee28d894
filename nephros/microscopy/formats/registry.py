"""Which files of microscopes' software are read here, and by which library."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephros.errors import MissingDependency
from nephros.microscopy.formats.image import MicroscopeImage
from nephros.reading import check_is_file


@dataclass(frozen=True)
class MicroscopeFormat:
    """A format and the library that reads it."""

    name: str
    """With an article, such as ``a Nikon ND2 file``."""
    module: str
    """Of the library."""
    extra: str
    """Of nephros, which installs it."""
    reader: str
    """Module and function here, such as ``nd2_file:open_nd2``."""

    def require(self) -> None:
        """Raise MissingDependency where the library isn't installed."""
        if importlib.util.find_spec(self.module) is None:
            raise MissingDependency(
                f"Reading {self.name} needs {self.module}: pip install 'nephros[{self.extra}]', or save it as OME-TIFF."
            )

    def open(self, path: Path) -> AbstractContextManager[list[MicroscopeImage]]:
        """Return the context in which the images of a file can be read."""
        module, _, function = self.reader.partition(":")
        opener: Callable[[Path], Any] = getattr(
            importlib.import_module(f"nephros.microscopy.formats.{module}"), function
        )
        result: AbstractContextManager[list[MicroscopeImage]] = opener(path)
        return result


FORMATS: dict[str, MicroscopeFormat] = {
    "nd2": MicroscopeFormat("a Nikon ND2 file", "nd2", "formats", "nd2_file:open_nd2"),
    "lif": MicroscopeFormat("a Leica LIF file", "liffile", "formats", "lif_file:open_lif"),
    "ims": MicroscopeFormat("an Imaris file", "h5py", "formats", "ims_file:open_ims"),
    "czi": MicroscopeFormat("a Zeiss CZI file", "pylibCZIrw", "czi", "czi_file:open_czi"),
}
STACK_SUFFIXES = tuple(f".{key}" for key in FORMATS)
"""Suffixes of files that are stacks whatever their size; which format a file has is told by its first bytes."""
_HEAD_BYTES = 16


def microscope_format(path: Path) -> str:
    """Return the key in `FORMATS` of a file by its first bytes, or nothing where it is of none of them."""
    try:
        check_is_file(path)
        if path.is_dir():
            return ""
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError):  # whoever reads it reports what is wrong
        return ""
    return format_of_head(head, path)


def format_of_head(head: bytes, path: Path) -> str:
    """Return what `microscope_format` does, by the first bytes of a file."""
    if head.startswith(b"ZISRAWFILE"):
        return "czi"
    if head.startswith(b"\xda\xce\xbe\x0a"):
        return "nd2"
    if head.startswith(b"\x70\0\0\0") and head[8:9] == b"\x2a":
        return "lif"
    return "ims" if head.startswith(b"\x89HDF") and path.suffix.lower() == ".ims" else ""
