"""Files that segmentation programs write beside images: masks, outlines and probabilities, which are not images of cells."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

COMPANION_KIND = "masks or outlines beside their images"
"""What a note calls these files."""
_COMPANION = (
    "(cp )?masks?|(cp )?outlines?|cp output|flows?|labels?|label image|seg|segmented|segmentation|simple segmentation|"
    "object predictions|object identities|probabilities|probability map|instances?|contours?|annotations?|overlay|gt"
)
_STEM = re.compile(rf"(?P<image>.*?\w)[\W_]+({_COMPANION})( \d+)?", re.IGNORECASE)
"""The name of such a file without its suffix, and in it that of its image; separators as blanks."""
_HINTS = (
    "mask", "outline", "output", "flow", "label", "seg", "predic", "identit", "probab", "instance", "contour", "annot", "overlay",
    "gt",
)  # fmt: skip
"""One of these is in each such name in lower case, and few other names have one."""
_FOLDER = re.compile(_COMPANION, re.IGNORECASE)
_IMAGE_FOLDER = re.compile("(raw )?(images?|imgs?|pictures?|crops?|raw)", re.IGNORECASE)


def companion_files(names: Iterable[str]) -> set[str]:
    """Return which images and stacks in one folder belong to another one of them, such as cell_mask.png beside cell.png.

    cellpose writes cell_cp_masks.png, ilastik cell_Simple Segmentation.tif, and data sets have cell_mask.png.
    """
    names = list(names)
    if not _has_hint("\n".join(names)):  # in one go, since folders may have 100,000 images
        return set()
    candidates = [name for name in names if _has_hint(name)]
    stems = set(map(_stem_words, names))
    matches = {name: _STEM.fullmatch(_stem_words(name)) for name in candidates}
    return {name for name, match in matches.items() if match and _words(match["image"]) in stems}


def companion_folders(folders: Iterable[str], has_images: bool) -> set[str]:
    """Return which folders in one folder are named like masks, where the images are beside them: loose, or in such as images."""
    folders = list(folders)
    if not has_images and not any(_IMAGE_FOLDER.fullmatch(_words(name)) for name in folders):
        return set()
    return {name for name in folders if _FOLDER.fullmatch(_words(name))}


def _has_hint(text: str) -> bool:
    text = text.casefold()
    return any(hint in text for hint in _HINTS)


def _stem_words(name: str) -> str:
    return _words(re.sub(r"(\.ome)?(\.zarr)?$", "", PurePath(name).stem, flags=re.IGNORECASE))


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip().casefold()
