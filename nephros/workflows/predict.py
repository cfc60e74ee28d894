"""Predict the classes of cells: images in, a table of predictions out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from numpy.typing import NDArray

from nephros.data.images.decoder import DECODE_TIMEOUT_S, ImageDecoder, check_decode_timeout
from nephros.errors import FileError, InvalidArgument
from nephros.evaluation.calibration import check_coverage
from nephros.exporters.loading import load_classifier
from nephros.inference.classify import classify_cells
from nephros.inference.predictions import Predictions
from nephros.inference.predictor import Predictor
from nephros.inference.reader import CellBatch, CellReader
from nephros.inference.runtimes import DEFAULT_RUNTIME
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.voxel_size import VoxelSize, check_voxel_size
from nephros.text_tables import join_words

MAX_FILE_PIXELS = 20_000_000_000
"""Twice as many as TissueMNIST has at 224 x 224 pixels."""
_MAX_NAMED = 3
"""Stacks that one note names."""
MIN_PROGRESS_INPUTS = 500
"""Number of inputs from which a progress bar is shown on a terminal."""


def predict(
    inputs: str | Path | Sequence[str | Path] | NDArray[Any],
    model: str | Path | Predictor | None = None,
    *,
    coverage: float = 0.9,
    device: str = "cpu",
    tta: bool = False,
    precision: str = "auto",
    runtime: str = DEFAULT_RUNTIME,
    white_level: float | None = None,
    channel: int | str | None = None,
    image: int | str | None = None,
    axes: str | None = None,
    level: int | str | None = None,
    time_point: int | None = None,
    voxel_size: VoxelSize | None = None,
    min_volume: float | None = None,
    mask: str | Path | None = None,
    stitch_threshold: float | None = None,
    segment: str | None = None,
    max_pixels: int = MAX_FILE_PIXELS,
    decode_timeout: float = DECODE_TIMEOUT_S,
) -> Predictions:
    """Classify images of cells.

    Args:
        inputs: images (PNG, TIFF with a cell per page, JPEG), 3-D stacks (TIFF, OME-Zarr and its https and s3 URLs), whose nuclei
            are cut out, npz files with ``images``, ``train_images``, ``val_images`` or ``test_images``, and folders of them. A
            model of volumes takes stacks, and npz files with ``volumes`` or ``test_volumes`` and so on. Or an array of images, or
            a list of arrays, as `Predictor.predict` takes them.
        model: what `nephros.load_classifier` takes, or the `Predictor` that it returned.
        coverage: probability, above 0 to 1, with which a prediction set shall contain the true class.
        device: cpu, cuda or auto, as `nephros.load_classifier` takes it; a `Predictor` has its own.
        tta: predict with test-time augmentation, means over several views of each image, as `Predictor.with_tta` does.
        precision: auto, float32 or int8, as `nephros.load_classifier` takes it; a `Predictor` has its own.
        runtime: onnxruntime or openvino, as `nephros.load_classifier` takes it; a `Predictor` has its own.
        white_level: pixel value that becomes 255 in images of more than 8 bits; None takes that of the training images or, where
            the model was trained on 8 bits, the brightest pixel of all inputs, so that predictions depend on the other inputs.
        channel: index, or in stacks the name, of the channel that shows the nuclei; of color images, and images of single cells
            with several channels, index of the plane. None takes the training images' or the only plane with a signal.
        image: index or name of the image, in stacks whose files hold several; None takes the only one with several slices, else
            the first.
        axes: what the dimensions of stacks are, such as ``"ZYX"`` for slices saved as channels; None takes the files' word.
        level: of stacks with an image pyramid, as `nephros.prepare` takes it.
        time_point: of stacks, index in a time series.
        voxel_size: of stacks, in micrometers along z, y and x, at the finest level of a pyramid; None takes the metadata of each
            file.
        min_volume: of nuclei in stacks, below which they are left out; in cubic micrometers.
        mask: instance mask of the stack, integers with 0 outside of nuclei, whose ids the predictions then have; None segments
            the nuclei roughly. For several stacks a pattern such as ``"{stem}_mask.tif"``, where the stem of ``K4.ome.tif`` is
            K4. All inputs but npz files are then stacks, a single slice too.
        segment: of stacks without a mask, as `nephros.prepare` takes it.
        stitch_threshold: of masks whose ids count within each slice only, as `nephros.prepare` takes it.
        max_pixels: of one file, in all its pages or rows, when decoded.
        decode_timeout: seconds for which one file is decoded, where that may take long.

    Returns:
        A row per cell or nucleus, and a row with an error per input that can't be read.

    Raises:
        InvalidArgument: `coverage`, `white_level`, `voxel_size`, `min_volume` or a limit is out of range.
        NephrosError: the model can't be opened. An image that can't be read raises nothing.
    """
    check_coverage(coverage)
    if not _is_paths(inputs):
        if isinstance(channel, str):
            raise InvalidArgument("channel", channel, "a number: planes of arrays have no names")
        return _open_predictor(model, tta, device=device, precision=precision, runtime=runtime).predict(
            inputs, coverage=coverage, white_level=white_level, channel=channel
        )
    if voxel_size is not None:
        voxel_size = check_voxel_size("voxel_size", voxel_size)
    stack_options = StackOptions(
        channel, image, voxel_size, axes, min_volume, None if mask is None else str(mask), level, time_point,
        stitch_threshold,
        segment,
    )  # fmt: skip
    if max_pixels < 1:
        raise InvalidArgument("max_pixels", max_pixels, "a whole number of at least 1")
    seconds = check_decode_timeout(decode_timeout)
    decoder = ImageDecoder(seconds, advice="save it again, uncompressed, or set `decode_timeout` to more seconds")
    predictor = _open_predictor(model, tta, device=device, precision=precision, runtime=runtime)
    reader = CellReader(
        [inputs] if isinstance(inputs, str | Path) else inputs,
        predictor.input_shape,
        white_level,
        _PixelLimit(max_pixels),
        stack_options=stack_options,
        conversion=predictor.input_conversion,
        decoder=decoder,
        volumes=predictor.depth is not None,
    )
    predictions = classify_cells(
        predictor,
        _iter_with_progress(reader),
        reader.sources,
        reader.errors,
        coverage,
        lambda: [*_conversion_notes(reader), *_unused_options(reader, stack_options)],
    )
    return replace(predictions, located=tuple(reader.located))


def _open_predictor(
    model: str | Path | Predictor | None, tta: bool, *, device: str, precision: str, runtime: str
) -> Predictor:
    if not isinstance(model, Predictor):
        return load_classifier(model, tta=tta, device=device, precision=precision, runtime=runtime)
    return model.with_tta() if tta else model


class _PixelLimit:
    """Counts the decoded pixels of each file; a `nephros.inference.reader.SizeCheck`."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._file: object = None
        self._n_pixels = 0

    def __call__(self, name: object, n_cells: int, pixels_per_cell: int) -> None:
        """Count more cells of a file, or 0 for what it claims; raise FileError if it has too many pixels."""
        if name is not self._file:
            self._file, self._n_pixels = name, 0
        if self._n_pixels + max(1, n_cells) * pixels_per_cell > self._max_pixels:
            raise FileError(
                str(name),
                f"{name} has more than {self._max_pixels:,} pixels when decoded; split it, or set `max_pixels` to more.",
            )
        self._n_pixels += n_cells * pixels_per_cell


def _iter_with_progress(reader: CellReader) -> Iterator[CellBatch]:
    """Yield the batches, with a progress bar on the terminal if there are many inputs."""
    from rich.console import Console

    from nephros.console import shows_bars

    console = Console(stderr=True)
    if len(reader) < MIN_PROGRESS_INPUTS or not shows_bars(console):
        reader.progress = _stack_progress
        yield from reader.iter_batches()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(reader))
        for batch in reader.iter_batches():
            progress.update(task, completed=reader.n_read)
            yield batch


def _stack_progress(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    from nephros.console import progress_bar

    return progress_bar(items, what, total)


def _is_paths(inputs: Any) -> TypeGuard[str | Path | Sequence[str | Path]]:
    """Return whether inputs are named, and not images in memory; an empty list is one of no names."""
    if isinstance(inputs, str | Path):
        return True
    return isinstance(inputs, list | tuple) and all(isinstance(item, str | Path) for item in inputs)


def _conversion_notes(reader: CellReader) -> list[str]:
    return [
        *merge_notes(reader.input_notes, [located.display_path for located in reader.located]),
        *(
            f"{conversion} ({count:,} {'image' if count == 1 else 'images'})"
            for conversion, count in reader.conversion_counts.items()
        ),
    ]


def _unused_options(reader: CellReader, options: StackOptions) -> list[str]:
    """Return a note on options that only stacks have, where no input is one."""
    if not options.only_for_stacks or reader.located or reader.errors:
        return []
    return [f"{join_words(f'`{name}`' for name in options.only_for_stacks)} had no effect: no input is a stack"]


def merge_notes(notes: Sequence[str], stacks: Sequence[str]) -> list[str]:
    """Return notes, where one that says the same of several stacks, ``STACK: text``, names all of them."""
    stacks_of_text: dict[str, list[str]] = {}
    for note in notes:
        stack = next((stack for stack in stacks if note.startswith(f"{stack}: ")), "")
        stacks_of_text.setdefault(note.removeprefix(f"{stack}: "), []).append(stack)
    merged = []
    for text, names in stacks_of_text.items():
        labels = [name for name in dict.fromkeys(names) if name]
        if n_more := len(labels) - _MAX_NAMED:
            labels = [*labels[:_MAX_NAMED], *([f"{n_more:,} more"] if n_more > 0 else [])]
        merged.append(f"{join_words(labels)}: {text}" if labels else text)
    return merged
