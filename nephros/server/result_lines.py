"""Results of a request as lines of JSON, and a last line that says whether they are complete."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from pydantic import BaseModel

from nephros.errors import NephrosError
from nephros.server.limits import RequestRejected
from nephros.server.prometheus import ServerMetrics
from nephros.server.schemas import PredictionResult, StreamAborted

logger = logging.getLogger(__name__)

MAX_LINES_PER_WRITE = 64
"""Results that are sent at once."""


async def iter_lines(
    results: AsyncIterator[BaseModel], metrics: ServerMetrics, timeout_s: float, last_line: Callable[[int], BaseModel]
) -> AsyncIterator[bytes]:
    """Yield results as lines, several at a time, and a last line.

    Args:
        results: instances of `PredictionResult`, which are counted, or others, which are sent at once.
        metrics: where predictions are counted.
        timeout_s: seconds for all results.
        last_line: returns the line after that many results, unless there was an error.
    """
    n_sent, deadline = 0, asyncio.get_running_loop().time() + timeout_s
    batches = _in_batches(results)
    error = ""
    try:
        while True:
            async with asyncio.timeout_at(deadline):
                batch: list[BaseModel] = await anext(batches, [])
            if not batch:
                break
            n_sent += record_results(metrics, [result for result in batch if isinstance(result, PredictionResult)])
            yield b"".join(result.model_dump_json(exclude_unset=True).encode() + b"\n" for result in batch)
    except TimeoutError:
        error = "The prediction took too long: send less at once."
    except RequestRejected as rejection:
        error = rejection.message
    except NephrosError as known:
        error = str(known)
    except Exception as unexpected:  # the status is sent: only a last line can tell the client
        logger.exception("A response ended early")
        error = f"Internal server error ({type(unexpected).__name__}): see the server log."
    line = StreamAborted(done=False, error=error, n_rows=n_sent) if error else last_line(n_sent)
    yield line.model_dump_json().encode() + b"\n"


async def _in_batches(results: AsyncIterator[BaseModel]) -> AsyncIterator[list[BaseModel]]:
    batch = []
    async for result in results:
        batch.append(result)
        if len(batch) == MAX_LINES_PER_WRITE or not isinstance(result, PredictionResult):
            yield batch
            batch = []
    if batch:
        yield batch


def record_results(metrics: ServerMetrics, results: Sequence[PredictionResult]) -> int:
    """Count predictions and errors; return how many there are."""
    n_errors = sum(result.error is not None for result in results)
    metrics.record_predictions(len(results) - n_errors, n_errors)
    return len(results)
