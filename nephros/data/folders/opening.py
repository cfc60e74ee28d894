"""Data sets as folders of images, by class folders or by a table of labels, split as the folder says or here."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from nephros.data.assembly import assemble, divide
from nephros.data.dataset import Dataset
from nephros.data.folders.image_files import EXPECTED_LAYOUT, FolderScan
from nephros.data.folders.images import read_folder_images
from nephros.data.folders.label_table import TABLE_SUFFIXES
from nephros.data.folders.scan import scan_class_folders
from nephros.data.folders.table_scan import scan_folder_with_tables, scan_table, unread_table_warnings
from nephros.data.group_names import file_name_warnings
from nephros.data.images.foreign_formats import folder_format
from nephros.data.images.input_conversion import DEFAULT_CONVERSION, CellShape, InputConversion
from nephros.data.provenance import Provenance
from nephros.data.split import SPLITS
from nephros.data.splitting import assign_splits, check_group_rule
from nephros.errors import FileError, InvalidArgument
from nephros.escaping import escape_surrogates
from nephros.files import file_digest


def open_folder(
    path: str | Path,
    *,
    size: int | None = None,
    seed: int = 0,
    groups: str = "auto",
    conversion: InputConversion = DEFAULT_CONVERSION,
    shape: CellShape | None = None,
    draw_test: bool = True,
) -> Dataset:
    """Open a folder of images, or a table that names images.

    Args:
        path: contains CLASS/IMAGE, which is split here 7:1:2 by class, or CLASS/IMAGE in folders for train, val and test,
            under these or similar names; what of val and test is missing is drawn from train. The names of the subfolders are
            the class names, in order, numbers by value. Images in subfolders of a class belong to it. Or contains images
            beside a table of labels, or is that table: CSV or TSV with the columns file and label, and perhaps split and
            group. Hidden files and files that are not PNG, TIFF or JPEG are skipped, and a warning counts them.
        size: resize every image to (size, size) pixels with Pillow's bicubic filter, padded with black to keep the aspect
            ratio; None requires images of one size.
        seed: of the split.
        groups: what images belong to one patient or slide, and so in one split: ``auto`` (the table's groups, or the
            subfolders of class folders, or folders around them that are named like patients), ``none``, ``subfolders`` of
            class folders, the ``folders`` around class folders, or the ``names`` of the files, such as P01_cell2.png.
        conversion: how images become cells. Without a white level, images of more than 8 bits are scaled by one factor, so that
            the folder's brightest pixel becomes 255.
        shape: channels, height and width of the cells of a model that is to be evaluated; wins over `size`.
        draw_test: False draws no test split where there is none, and splits 9:1.

    Returns:
        Images (n, h, w) uint8 where all are grayscale, else (n, h, w, 3).

    Raises:
        FileError: the folder has no classes, too few images or too few groups, or an image can't be read or doesn't fit the
            others.
        InvalidArgument: `size` is below 1, or `groups` is none of the five, and no column.
    """
    if size is not None and size < 1:
        raise InvalidArgument("size", size, "at least 1 pixel")
    root = Path(path).expanduser().absolute()
    scan = _scan(root, groups)
    if groups == "names" and not scan.groups_from:
        raise FileError(
            root, f"{root} has no files that are named for patients, such as P01_cell2.png; leave out `groups`."
        )
    if any("\ud800" <= char <= "\udfff" for char in str(root)):
        raise FileError(root, f"{root} has a name that is not UTF-8 text, which a run can't store; rename it.")
    folder = root if root.is_dir() else root.parent
    content = read_folder_images(folder, scan.files, size=size, conversion=conversion, shape=shape)
    sha256 = content.sha256
    for table in scan.tables:
        sha256 = hashlib.sha256(f"{sha256}\0{file_digest(table)}".encode()).hexdigest()
    labels = np.array([file.label for file in scan.files], dtype=np.int64)
    assignment = assign_splits(
        root,
        labels,
        scan.class_names,
        seed,
        given=np.array([SPLITS.index(file.split) for file in scan.files]) if scan.splits_from else None,
        given_by=scan.splits_from,
        groups=[file.group for file in scan.files],
        group_source=scan.groups_from,
        draw_test=draw_test,
    )
    is_drawn_by_image = assignment.n_groups is None and len({file.split for file in scan.files}) < len(SPLITS)
    provenance = Provenance(
        scan.info.name if scan.info else root.name if root.is_dir() else root.stem,
        "own",
        str(root),
        sha256,
        scan.info.key if scan.info else None,
        "; ".join([assignment.rule, *scan.notes, *content.details]),
        n_groups=assignment.n_groups,
    )
    may_be_patients = is_drawn_by_image and groups == "auto"
    warnings = (
        *scan.warnings,
        *(file_name_warnings([file.path.stem for file in scan.files]) if may_be_patients else ()),
        *assignment.warnings,
        *content.warnings,
    )
    names = np.array([escape_surrogates(file.path.relative_to(folder).as_posix()) for file in scan.files])
    splits = divide(content.images, labels, assignment, names)
    return assemble(splits, scan.class_names, provenance, content.conversion, warnings, scan.info)


def _scan(root: Path, groups: str) -> FolderScan:
    if root.suffix.lower() in TABLE_SUFFIXES and not os.path.isdir(root):
        return scan_table(root, groups)
    if not os.path.isdir(root):
        raise FileError(root, f"{root} is not a folder; {EXPECTED_LAYOUT}.")
    if folder_kind := folder_format(root):
        raise FileError(root, folder_kind.message(root))
    if scan := scan_folder_with_tables(root, groups):
        return scan
    check_group_rule(groups)
    scan = scan_class_folders(root, groups)
    return replace(scan, warnings=scan.warnings + unread_table_warnings(root))
