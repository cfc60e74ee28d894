"""Where a stack is: a path on disk, or the URL of a Zarr store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from nephros.errors import InvalidArgument
from nephros.escaping import escape_surrogates
from nephros.files import absolute_path

URL_PREFIXES = ("https://", "http://", "s3://")
"""What the URL of a Zarr store begins with."""


@dataclass(frozen=True)
class StackUrl:
    """The URL of a Zarr store."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """Its last part."""
        return self.text.rpartition("/")[2]

    def child(self, key: str) -> StackUrl:
        """Return the URL of a group in the store."""
        return StackUrl(f"{self.text}/{key}")


StackLocation = Path | StackUrl


def name_path(location: StackLocation) -> PurePath:
    """Return a path whose parts name a stack: its own or, of a URL, those after ``https://``."""
    return PurePosixPath(location.text.partition("://")[2]) if isinstance(location, StackUrl) else location


def display_path(location: StackLocation) -> str:
    """Return a path or URL as text that can be written anywhere: bytes that are not UTF-8 become escapes such as ``\\udce9``."""
    return str(location) if isinstance(location, StackUrl) else escape_surrogates(os.fspath(location))


def is_url(text: object) -> bool:
    """Return whether a stack is named by a URL."""
    return isinstance(text, StackUrl) or (isinstance(text, str) and text.lower().startswith(URL_PREFIXES))


def locate(path: str | Path | StackUrl, parameter: str = "stack") -> StackLocation:
    """Return an absolute path without ``..``, or a URL without what its end doesn't need.

    Raises:
        InvalidArgument: a URL has parts that the URL of a store can't have.
    """
    if isinstance(path, StackUrl):
        return path
    if not isinstance(path, str) or not is_url(path):
        return absolute_path(path)
    scheme, _, rest = path.partition("://")
    host, _, key = rest.partition("/")
    if not host or "@" in host or any(mark in path for mark in "?#\\") or "::" in path or ".." in key.split("/"):
        raise InvalidArgument(
            parameter,
            path,
            "the plain URL of an OME-Zarr store, such as https://HOST/FOLDER/K4.ome.zarr or s3://BUCKET/K4.ome.zarr, without "
            "user name, query or ..",
        )
    return StackUrl(f"{scheme.lower()}://{rest.rstrip('/')}")
