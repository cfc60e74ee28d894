"""From the files of a request to rows of answers: read in threads, answered in shared batches, explained where asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.display import png_address
from nephros.data.in_memory_file import Held
from nephros.inference.predictor import Answers, Engine
from nephros.inference.reader import Inputs
from nephros.interpretability.saliency import heat_maps
from nephros.interpretability.similar_cells import Neighbours
from nephros.server.batching import MOST, Batcher
from nephros.server.limits import Guard, Limits

READERS = 4
"""Threads that decode pictures and make those that are sent back."""
Result = dict[str, Any]
"""One row: ``file``, ``index``, ``label``, ``class_name``, ``probabilities``, ``prediction_set``, ``unfamiliar``, ``error``."""


@dataclass(frozen=True)
class Wishes:
    """What a request asks for beside the answers."""

    coverage: float = 0.9
    white: float | None = None
    details: bool = False
    """Adds ``split``, ``reason``, ``notes`` and ``picture``."""
    explain: bool = False
    """Adds ``heat_map``."""
    similar: int = 0
    """Adds ``similar`` with so many known cells."""
    first: int = 1 << 62
    """Pictures, heat maps and similar cells are made of so many rows only."""
    rows: range = range(1 << 62)
    """Those that are answered."""


@dataclass(frozen=True)
class _Part:
    """Some cells of a request with what is known of them."""

    rows: NDArray[np.int64]
    cells: NDArray[np.uint8]
    errors: dict[int, str]
    """Rows that were found to be bad since the part before."""


class Service:
    """An engine behind its queue, and known cells where there are any."""

    def __init__(self, engine: Engine, known: Neighbours | None = None, *, merge: bool = True) -> None:
        """Take an open engine; `merge` as in Batcher."""
        self.engine, self.known = engine, known
        self.batcher = Batcher(engine.answer, merge=merge)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="nephros-read")

    def close(self) -> None:
        """End its threads."""
        self.batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def check(self) -> None:
        """Return when the model has answered a blank cell; raises what it raised, or TimeoutError after 5 seconds."""
        shape = (self.engine.height, self.engine.width, 3)[: 2 if self.engine.channels == 1 else 3]
        future = self.batcher.submit(np.zeros((1, *shape), dtype=np.uint8))
        async with asyncio.timeout(5):
            await asyncio.wrap_future(future)

    async def results(self, files: list[Held], wishes: Wishes, limits: Limits) -> AsyncIterator[tuple[int, Result]]:
        """Yield (row, Result) for every cell and every bad file, as they are answered; rows count from 0.

        Refused when too many requests wait. A bad file raises nothing.
        """
        engine = self.engine
        shape = (engine.channels, engine.height, engine.width)
        loop = asyncio.get_running_loop()
        read = await loop.run_in_executor(self._pool, lambda: Inputs(files, shape, wishes.white, Guard(limits)))
        parts = _parts(read, wishes.rows)
        try:
            while True:
                with self.batcher.coming():
                    part = await loop.run_in_executor(self._pool, next, parts, None)
                    if part is None:
                        break
                    waiting = self.batcher.submit(part.cells) if len(part.rows) else None
                for row, error in part.errors.items():
                    yield row, self._failed(read, row, error, wishes)
                if waiting is not None:
                    answers = await asyncio.wrap_future(waiting)
                    for row, result in await loop.run_in_executor(
                        self._pool, self._answered, read, part, answers, wishes
                    ):
                        yield row, result
        finally:
            with contextlib.suppress(ValueError):  # it may still be at work, and ends when it is forgotten
                parts.close()

    def _failed(self, read: Inputs, row: int, error: str, wishes: Wishes) -> Result:
        where = read.rows[row]
        result: Result = {"file": where.file, "index": where.index}
        result |= dict.fromkeys(("label", "class_name", "probabilities", "prediction_set", "unfamiliar"))
        return result | {"error": error} | _beside(wishes, where.split, "", [])

    def _answered(self, read: Inputs, part: _Part, answers: Answers, wishes: Wishes) -> list[tuple[int, Result]]:
        sets = self.engine.prediction_sets(answers.probabilities, wishes.coverage)
        labels = answers.probabilities.argmax(axis=1)
        rounded = np.round(answers.probabilities.astype(np.float64), 6).tolist()
        found = []
        for i, row in enumerate(part.rows.tolist()):
            where = read.rows[row]
            result: Result = {
                "file": where.file,
                "index": where.index,
                "label": int(labels[i]),
                "class_name": self.engine.class_names[labels[i]],
                "probabilities": rounded[i],
                "prediction_set": np.flatnonzero(sets[i]).tolist(),
                "unfamiliar": bool(answers.unfamiliar[i]),
                "error": None,
            }
            beside = _beside(wishes, where.split, answers.reasons[i], read.row_notes.get(row, []))
            found.append((row, result | beside))
        self._add_pictures(part, answers, labels, wishes, found)
        return found

    def _add_pictures(
        self, part: _Part, answers: Answers, labels: NDArray[Any], wishes: Wishes, found: list[tuple[int, Result]]
    ) -> None:
        """Add what takes time, for those rows of which it is wanted."""
        some = np.flatnonzero(part.rows < wishes.first)
        if not len(some):
            return
        if wishes.details:
            for i in some:
                found[i][1]["picture"] = png_address(part.cells[i])
        if wishes.explain:
            chosen = _some(answers, some)
            maps = heat_maps(part.cells[some], chosen, labels[some], self._again)
            for i, values in zip(some, np.round(maps.values.astype(np.float64), 3), strict=True):
                found[i][1]["heat_map"] = {"method": maps.method, "label": int(labels[i]), "values": values.tolist()}
        if wishes.similar and self.known is not None and answers.features is not None:
            near, similarity = self.known.nearest(answers.features[some], wishes.similar)
            for i, indices, values in zip(some, near, similarity, strict=True):
                found[i][1]["similar"] = [self._known(int(j), float(s)) for j, s in zip(indices, values, strict=True)]

    def _known(self, index: int, similarity: float) -> dict[str, Any]:
        assert self.known is not None
        label = int(self.known.labels[index])
        return {
            "label": label,
            "class_name": self.known.class_names[label],
            "similarity": round(similarity, 4),
            "picture": png_address(self.known.images[index]),
        }

    def _again(self, cells: NDArray[np.uint8]) -> Answers:
        """Answer by way of the queue, so that one thread alone asks the engine."""
        return self.batcher.submit(cells).result()


def _beside(wishes: Wishes, split: str, reason: str, notes: list[str]) -> Result:
    """Return what a request has wished for beside an answer, its pictures still to be made."""
    found: Result = {}
    if wishes.details:
        found |= {"split": split, "reason": reason, "notes": notes, "picture": None}
    if wishes.explain:
        found["heat_map"] = None
    if wishes.similar:
        found["similar"] = []
    return found


def _some(answers: Answers, which: NDArray[np.int64]) -> Answers:
    features, maps = answers.features, answers.maps
    return Answers(
        answers.probabilities[which],
        None if features is None else features[which],
        None if maps is None else maps[which],
        answers.unfamiliar[which],
        tuple(answers.reasons[i] for i in which),
    )


def _parts(read: Inputs, wanted: range) -> Generator[_Part, None, None]:
    """Yield the `wanted` cells of a request, at most MOST at a time, and their errors as soon as they are known."""
    told: set[int] = set()

    def news() -> dict[int, str]:
        fresh = {row: error for row, error in list(read.errors.items()) if row in wanted and row not in told}
        told.update(fresh)
        return fresh

    for rows, cells in read.batches():
        inside = (rows >= wanted.start) & (rows < wanted.stop)
        if not inside.all():
            rows, cells = rows[inside], cells[inside]
        for start in range(0, len(rows), MOST):
            yield _Part(rows[start : start + MOST], cells[start : start + MOST], news())
    if rest := news():
        none = np.empty((0, read.shape[1], read.shape[2]), dtype=np.uint8)
        yield _Part(np.empty(0, dtype=np.int64), none, rest)
