"""Decoding of images from outside within a limit of time: here where that is certain to be cheap, else in a worker process."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.decoding import decode_image, decode_pages, strict_pillow_warnings
from nephros.data.images.decoding_cost import MAX_CHEAP_PIXELS, check_claims, is_cheap
from nephros.data.images.plain_png import decode_plain_png
from nephros.errors import FileError, InvalidArgument
from nephros.isolation.pool import TimeBudget, TimeLimitExceeded, WorkerCrashed, WorkerPool

DECODE_TIMEOUT_S = 120.0
"""Seconds for which one file may be decoded."""
MAX_WORKERS = 8
"""Files that may be open at once: a stack, its mask, and images."""
_BATCH_BYTES = 1 << 18
WORKER_MODULES = (__name__,)
"""Modules that a worker imports before its first image."""


@functools.cache
def default_pool() -> WorkerPool:
    """Return this process's workers, of which each starts when a file needs it and no other is free."""
    return WorkerPool(MAX_WORKERS, modules=WORKER_MODULES)


def check_decode_timeout(seconds: float) -> float:
    """Return the number of seconds; raise InvalidArgument unless it is above 0 and at most a day."""
    if not 0 < seconds <= 86_400:
        raise InvalidArgument("decode_timeout", seconds, "above 0 and at most 86400 seconds")
    return float(seconds)


class ImageDecoder:
    """Decodes images as `nephros.data.images.decoding` does; a file that takes too long gets an error, and costs no other."""

    def __init__(
        self,
        timeout_s: float = DECODE_TIMEOUT_S,
        *,
        budget: TimeBudget | None = None,
        max_cheap_pixels: int = MAX_CHEAP_PIXELS,
        advice: str = "save it again, uncompressed",
    ) -> None:
        """Set the limits.

        Args:
            timeout_s: seconds for each file.
            budget: seconds for all files together, in place of `timeout_s`.
            max_cheap_pixels: pixels of a usual file up to which it is decoded in this process.
            advice: what to do about a file that took too long.
        """
        self._timeout_s, self._budget = timeout_s, budget
        self._max_cheap_pixels, self._advice = max_cheap_pixels, advice

    def decode_image(self, name: object, data: bytes) -> DecodedImage:
        """Decode a file that holds a single image; arguments and errors as `nephros.data.images.decoding.decode_image`."""
        if (plain := self._decode_plain(name, data)) is not None:
            return plain
        if is_cheap(data, self._max_cheap_pixels):
            return decode_image(name, data)
        check_claims(name, data)
        with contextlib.closing(self._run("decode_image", name, data)) as images:
            return next(images)

    def decode_pages(self, name: object, data: bytes) -> Iterator[DecodedImage]:
        """Decode a file page by page; arguments and errors as `nephros.data.images.decoding.decode_pages`."""
        if (plain := self._decode_plain(name, data)) is not None:
            yield plain
            return
        if is_cheap(data, self._max_cheap_pixels):
            yield from decode_pages(name, data)
            return
        check_claims(name, data)
        with contextlib.closing(self._run("decode_pages", name, data)) as images:
            yield from images

    def _decode_plain(self, name: object, data: bytes) -> DecodedImage | None:
        if str(name)[-4:].lower() != ".png":  # other suffixes say that a file is but an overview
            return None
        pixels = decode_plain_png(data, self._max_cheap_pixels)
        return None if pixels is None else DecodedImage(pixels, "gray")

    def _run(self, function: str, name: object, data: bytes) -> Generator[DecodedImage, None, None]:
        budget = self._budget or TimeBudget(self._timeout_s)
        subject = (
            f"{name} takes" if self._budget is None else f"{name} was not decoded: it and the files before it take"
        )
        seconds = f"{budget.seconds:g} second{'s' * (budget.seconds != 1)}"
        too_slow = f"{subject} more than {seconds} to decode; {self._advice}."
        with contextlib.closing(
            read_isolated(name, decode_in_worker, function, str(name), data, budget=budget, too_slow=too_slow)
        ) as items:
            for pages, layout, notes in items:
                for pixels in pages:
                    yield DecodedImage(pixels, layout, tuple(notes))


def read_isolated(
    name: object, function: Callable[..., Iterable[Any]], *args: Any, budget: TimeBudget, too_slow: str
) -> Generator[Any, None, None]:
    """Call a function that reads a file from outside in a worker of this process, and yield what it yields.

    Args:
        name: names the file in an error.
        function: defined at the top level of a module of this package.
        args: its arguments.
        budget: the time that it may take.
        too_slow: the message of the error for a file that takes longer.

    Raises:
        FileError: reading takes too long or too much memory, or crashes a decoder; or as the function raised it.
    """
    try:
        if budget.left <= 0:
            raise TimeLimitExceeded
        with contextlib.closing(default_pool().run(function, *args, budget=budget)) as items:
            yield from items
    except TimeLimitExceeded:
        raise FileError(str(name), too_slow) from None
    except WorkerCrashed:
        raise FileError(
            str(name), f"{name} makes its decoder crash, or take too much memory; save it again, as PNG or TIFF."
        ) from None
    except MemoryError:
        raise FileError(str(name), f"{name} takes too much memory to decode; crop the cells out first.") from None


def decode_in_worker(function: str, name: str, data: bytes) -> Iterator[tuple[NDArray[Any], str, tuple[str, ...]]]:
    """Yield the pixels of like images that follow each other as one array (n, h, w) or (n, h, w, c), with layout and notes.

    `function` is the name of one in `nephros.data.images.decoding`.
    """
    alike: list[DecodedImage] = []
    n_bytes = 0
    with strict_pillow_warnings():
        images = iter([decode_image(name, data)]) if function == "decode_image" else decode_pages(name, data)
        while True:
            error = None
            try:
                image = next(images, None)
            except Exception as caught:
                image, error = None, caught
            if alike and (image is None or n_bytes > _BATCH_BYTES or _kind(image) != _kind(alike[0])):
                yield _stack(alike)
                alike, n_bytes = [], 0
            if error is not None:
                raise error
            if image is None:
                return
            alike.append(image)
            n_bytes += image.pixels.nbytes


def _kind(image: DecodedImage) -> tuple[Any, ...]:
    return image.pixels.shape, image.pixels.dtype, image.layout, image.notes


def _stack(images: list[DecodedImage]) -> tuple[NDArray[Any], str, tuple[str, ...]]:
    first = images[0]
    pixels = first.pixels[None] if len(images) == 1 else np.stack([image.pixels for image in images])
    return pixels, first.layout, first.notes
