"""`nephros.annotate`: cells to label in a browser, in a project folder that keeps everything."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nephros.annotation.adding import AddedCells
from nephros.annotation.cell_reading import Progress
from nephros.annotation.export import FORMATS, LabelFormat, export_files
from nephros.annotation.label_import import describe_report, import_labels
from nephros.annotation.project import Project
from nephros.annotation.project_file import PROJECT_FILE
from nephros.errors import InvalidArgument
from nephros.microscopy.voxel_size import VoxelSize
from nephros.text_tables import pluralize

logger = logging.getLogger(__name__)

_FORMAT_OF_SUFFIX: dict[str, LabelFormat] = {f".{name}": name for name in FORMATS} | {".json": "geojson"}


def annotate(
    project: str | Path,
    data: str | Path | Sequence[str | Path] = (),
    *,
    name: str | None = None,
    model: str | Path | None = None,
    mask: str | None = None,
    channel: int | str | None = None,
    image: int | str | None = None,
    axes: str | None = None,
    level: int | str | None = None,
    time_point: int | None = None,
    voxel_size: VoxelSize | None = None,
    min_volume: float | None = None,
    stitch_threshold: float | None = None,
    segment: str | None = None,
    white_level: float | None = None,
    labels: str | Path | None = None,
    annotator: str | None = None,
    export: str | Path | None = None,
    serve: bool = True,
    **server_options: Any,
) -> None:
    """Make or open a project, add cells and labels to it, and serve the page in which its cells are labeled.

        nephros.annotate("kidney", "K4.tif", mask="K4_mask.tif")
        nephros.annotate("kidney")                                   # again, another day
        nephros.annotate("kidney", export="labels.csv")

    Each label is on disk before the page shows it as saved. `nephros.Project.open` reads a project without a page.

    Args:
        project: folder; it is made where there is none.
        data: npz files, images, folders of them, and stacks, whose cells are added; those that the project has are not added
            twice.
        name: of a new project; None takes that of the folder.
        model: of a new project: whose input the cells become, and from whose features it learns, as `nephros.load_classifier`
            takes it; None takes the bundled one.
        mask: of stacks, as for `nephros.predict`; so are the arguments up to `white_level`. None takes a label image of the
            stack's own store, or segments the nuclei roughly.
        channel: index or name of the channel, or index of the color plane, that shows the nuclei.
        image: index or name of the image in a file that holds several.
        axes: what a stack's dimensions are, such as ``"ZYX"``.
        level: level of an OME-Zarr store's pyramid.
        time_point: index in a time series.
        voxel_size: micrometers along z, y and x, at the finest level of a pyramid.
        min_volume: leave out smaller nuclei, in cubic micrometers.
        stitch_threshold: of masks whose ids count within each slice only, as `nephros.prepare` takes it.
        segment: how to segment the nuclei of stacks without a mask, as for `nephros.prepare`.
        white_level: pixel value that becomes 255 in images of more than 8 bits; the project keeps it, or the brightest of the
            first images, for later ones and for the models that are trained on it.
        labels: file of labels to import: CSV, QuPath's GeoJSON, or npz.
        annotator: whose labels these are, or those to export; None takes what the file says, or everyone's.
        export: write the labels to this .csv, .geojson or .npz file, in place of serving the page.
        serve: False only adds cells and labels.
        server_options: `host`, `port`, `token` and others of `nephros.serve`.

    Raises:
        InvalidArgument: an option can't be used.
        FileError: the folder is not a project and has other files, or no file of `data` can be read.
        LockedError: another process is serving the project.
        NephrosError: the model can't be opened, or labels can't be read or written.
    """
    paths = [data] if isinstance(data, str | Path) else list(data)
    options: dict[str, Any] = {
        "mask": mask, "channel": channel, "image": image, "axes": axes, "level": level, "time_point": time_point,
        "voxel_size": voxel_size, "min_volume": min_volume, "stitch_threshold": stitch_threshold, "segment": segment,
        "white_level": white_level,
    }  # fmt: skip
    _check_options(paths, options, labels, annotator, export)
    with _opened(Path(project).expanduser(), name, model, must_exist=export is not None and not paths) as opened:
        if paths:
            _log_added(opened, opened.add_cells(paths, **options, progress=_log_progress()))
        if labels is not None:
            report = import_labels(opened, labels, annotator)
            logger.info("%s: %s.", labels, describe_report(report))
            for note in report.notes:
                logger.warning("%s", note)
        if export is not None:
            label_format = _FORMAT_OF_SUFFIX[Path(export).suffix.lower()]
            for path, n_labels in export_files(opened, label_format, export, annotator=annotator).items():
                logger.info("%s of %s written to %s.", pluralize(n_labels, "label"), opened.name, path)
    if serve and export is None:
        from nephros.workflows.serve import serve as run_server

        run_server(model, project=project, **server_options)


@contextlib.contextmanager
def _opened(root: Path, name: str | None, model: str | Path | None, *, must_exist: bool) -> Iterator[Project]:
    """Open a project, or make it; one that was made here is removed again where the block fails before it has cells."""
    is_new = not (root / PROJECT_FILE).exists() and not must_exist
    project = Project.create_or_open(root, name=name, model=model) if is_new else Project.open(root)
    if not is_new:
        project.check_model(model)
    with contextlib.closing(project):
        try:
            yield project
        except BaseException:
            if is_new and not project.n_cells:
                project.delete()
            raise


def _check_options(
    paths: Sequence[str | Path],
    options: dict[str, Any],
    labels: str | Path | None,
    annotator: str | None,
    export: str | Path | None,
) -> None:
    """Raise InvalidArgument for options that would be ignored."""
    for parameter, value in options.items():
        if value is not None and not paths:
            raise InvalidArgument(parameter, value, "left out, except with `data`, whose cells are added")
    if annotator is not None and labels is None and export is None:
        raise InvalidArgument("annotator", annotator, "left out, except with `labels` or `export`")
    if export is not None and Path(export).suffix.lower() not in _FORMAT_OF_SUFFIX:
        raise InvalidArgument("export", export, "a path that ends in .csv, .geojson or .npz")


def _log_added(project: Project, added: AddedCells) -> None:
    for error in added.errors:
        logger.warning("%s", error)
    for note in added.notes:
        logger.info("%s", note)
    present = f" ({added.n_present:,} were there already)" if added.n_present else ""
    logger.info(
        "%s added%s; %s has %s.", pluralize(added.n_added, "cell"), present, project.name, f"{project.n_cells:,}"
    )


def _log_progress() -> Progress:
    """Return a function that logs each kind of work once."""
    texts: set[str] = set()

    def log(_share: float | None, text: str) -> None:
        if text not in texts:
            texts.add(text)
            logger.info("%s ...", text)

    return log
