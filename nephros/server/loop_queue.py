"""Between the event loop and the batcher: cells that arrive in one turn of the loop are queued together, and wake it together."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.inference.prediction_batch import PredictionBatch
from nephros.server.batching import Batcher

_Result = PredictionBatch | BaseException
_Waiting = asyncio.Future[PredictionBatch]


class LoopQueue:
    """Predicts for coroutines.

    While the loop reads requests, those that arrive wait in their sockets; it takes all in its next turn. Their cells then
    form one call of the network, without a wait, where one by one each would wake the batcher's thread for itself.
    """

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._channel: _Channel | None = None

    async def predict(self, cells: NDArray[np.uint8]) -> PredictionBatch:
        """Return the predictions for (n, h, w) or (n, h, w, c) cells; cancelled before its turn, it costs nothing.

        Raises:
            RequestRejected: too many jobs are waiting, or the batcher is closed. Errors of the network are raised as they are.
        """
        loop = asyncio.get_running_loop()
        if self._channel is None or self._channel.loop is not loop:
            self._channel = _Channel(loop, self._batcher)
        return await self._channel.submit(cells)


class _Channel:
    """The way from one event loop to the batcher's thread and back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, batcher: Batcher) -> None:
        self.loop, self._batcher = loop, batcher
        self._submitted: list[tuple[NDArray[np.uint8], _Waiting]] = []
        self._results: deque[tuple[_Waiting, _Result]] = deque()
        self._delivers = False

    def submit(self, cells: NDArray[np.uint8]) -> _Waiting:
        """Queue cells at the end of this turn of the loop, and return their predictions to be."""
        waiting: _Waiting = self.loop.create_future()
        if not self._submitted:
            self.loop.call_soon(self._pass_on)
        self._submitted.append((cells, waiting))
        return waiting

    def _pass_on(self) -> None:
        submitted, self._submitted = self._submitted, []
        for cells, waiting in submitted:
            if waiting.cancelled():
                continue
            try:
                self._batcher.submit(cells, _Receiver(waiting, self._deliver))
            except Exception as error:
                waiting.set_exception(error)

    def _deliver(self, waiting: _Waiting, result: _Result) -> None:
        """Take a result in the batcher's thread; the loop is woken once for all that it has not seen yet."""
        self._results.append((waiting, result))
        if not self._delivers:
            self._delivers = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self.loop.call_soon_threadsafe(self._set_results)

    def _set_results(self) -> None:
        self._delivers = False  # before the last look, so that no result is left behind
        while self._results:
            waiting, result = self._results.popleft()
            if waiting.done():
                continue
            if isinstance(result, BaseException):
                waiting.set_exception(result)
            else:
                waiting.set_result(result)


class _Receiver:
    """Takes the result of a job as a `concurrent.futures.Future` does."""

    def __init__(self, waiting: _Waiting, deliver: Callable[[_Waiting, _Result], Any]) -> None:
        self._waiting, self._deliver = waiting, deliver

    def set_running_or_notify_cancel(self) -> bool:
        """Return whether somebody still waits."""
        return not self._waiting.cancelled()

    def set_result(self, result: PredictionBatch) -> None:
        """Pass the predictions on."""
        self._deliver(self._waiting, result)

    def set_exception(self, error: BaseException) -> None:
        """Pass an error on."""
        self._deliver(self._waiting, error)
