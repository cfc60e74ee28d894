"""Server-sent events: every page of a project learns of the others' labels, of the model's progress, and of jobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from pydantic import BaseModel

from nephros.server.limits import RequestRejected
from nephros.server.project.schemas import JobInfo

HEARTBEAT_S = 15.0
"""Seconds after which a line without meaning shows that the connection works."""
MAX_CLIENTS = 64
"""Pages that listen at one time."""


class EventHub:
    """The pages that listen to a project.

    No events are queued: a page that reads slowly gets the latest state when it reads again, so its memory is bounded.
    """

    def __init__(self, read_state: Callable[[], Awaitable[BaseModel]]) -> None:
        """Set how the state is read that an event "change" carries."""
        self._read_state = read_state
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clients: set[_Client] = set()
        self._closed = False
        self._state_version, self._encoded_version, self._encoded_state = 0, -1, b""
        self._encoding = asyncio.Lock()

    def __len__(self) -> int:
        """Return the number of pages that listen."""
        return len(self._clients)

    def start(self) -> None:
        """Take events from now on; called in the event loop."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """End all streams, so that the server can stop; called in the event loop."""
        self._closed = True
        for client in self._clients:
            client.wake.set()

    def publish_change(self) -> None:
        """Tell all pages that labels, classes, cells or the model have changed; from any thread."""
        self._call_in_loop(self._mark_change)

    def publish_job(self, job: JobInfo) -> None:
        """Tell all pages the state of a job; from any thread."""
        self._call_in_loop(self._mark_job, job)

    @contextlib.contextmanager
    def connect(self) -> Iterator[AsyncIterator[bytes]]:
        """Within the block, one more page listens; its events begin with the present state.

        Raises:
            RequestRejected: too many pages listen.
        """
        if len(self._clients) >= MAX_CLIENTS:
            raise RequestRejected(503, f"{MAX_CLIENTS} pages listen to this project already: close some of them.")
        client = _Client()
        self._clients.add(client)
        try:
            yield self._stream(client)
        finally:
            self._clients.discard(client)

    async def _stream(self, client: _Client) -> AsyncIterator[bytes]:
        while not self._closed:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await client.wake.wait()
            except TimeoutError:
                yield b": still here\n\n"
                continue
            client.wake.clear()
            jobs, client.jobs = list(client.jobs.values()), {}
            parts = [encode_event("job", job) for job in jobs]
            if client.is_behind:
                client.is_behind = False
                parts.append(await self._encode_state())
            if parts and not self._closed:
                yield b"".join(parts)

    async def _encode_state(self) -> bytes:
        """Return the present state as an event; it is read once for all pages."""
        async with self._encoding:
            if self._encoded_version != self._state_version:
                version = self._state_version
                self._encoded_state = encode_event("change", await self._read_state())
                self._encoded_version = version
            return self._encoded_state

    def _mark_change(self) -> None:
        self._state_version += 1
        for client in self._clients:
            client.is_behind = True
            client.wake.set()

    def _mark_job(self, job: JobInfo) -> None:
        for client in self._clients:
            client.jobs[job.id] = job
            client.wake.set()

    def _call_in_loop(self, function: Callable[..., None], *args: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(function, *args)


class _Client:
    """What a page has not been sent yet."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.wake.set()
        self.is_behind = True
        self.jobs: dict[str, JobInfo] = {}


def encode_event(name: str, data: BaseModel) -> bytes:
    """Return an event in the format of text/event-stream; JSON has no line breaks that could end it."""
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n".encode()
