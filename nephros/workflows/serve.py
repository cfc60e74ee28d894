"""`nephros serve`: the application on a port, until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from nephros.data.dataset import Dataset
from nephros.data.load import load, locate
from nephros.errors import UserError
from nephros.exporters.loading import open_model
from nephros.interpretability.similar_cells import known_cells
from nephros.server.app import create_app
from nephros.server.h11_timeouts import Connection
from nephros.server.sample_cells import samples
from nephros.server.service import Service

LOOPBACK = "127.0.0.1"
CLIENTS = 900
"""Connections at one time; more are answered 503."""
DEFAULT_KNOWN = "tissuemnist"

Say = Callable[[str], None]


def serve(
    model: str | Path | None = None,
    *,
    host: str | None = None,
    port: int = 8000,
    known: str | Path | None = None,
    merge: bool = True,
    say: Say = print,
) -> None:
    """Answer requests until the process is interrupted.

    Args:
        model: a run folder, an exported file, or None for the model in the box.
        host: an address of this machine to listen on; None is loopback, and refuses requests under other host names.
        port: 0 takes a free one.
        known: data whose training cells are shown as similar, as `nephros.load` takes it; ``none`` for none. None takes
            TissueMNIST, where it is on this machine and fits the model.
        merge: False answers the cells of each request on their own, to measure what merging gains.
        say: is given the address when the server is ready.

    Raises:
        UserError: the model or the data can't be opened, or the port can't be had.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port is {port}, but it must be 0 to 65535.")
    with contextlib.closing(_listening(host or LOOPBACK, port)) as listening:
        engine = open_model(model, say=say)
        dataset = _known_data(known, engine.class_names)
        found = None if dataset is None else known_cells(engine, dataset, say=say)
        examples = samples(dataset)
        del dataset
        service = Service(engine, found, merge=merge)
        app = create_app(service, examples, loopback_only=host is None)
        config = uvicorn.Config(
            app, http=Connection, ws="none", log_level="warning", access_log=False, server_header=False,
            limit_concurrency=CLIENTS, timeout_graceful_shutdown=3, proxy_headers=False,
        )  # fmt: skip
        logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith("Cancel "))
        server = _Server(config, lambda: _announce(listening, host, say))
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it once more when it has ended cleanly
            server.run(sockets=[listening])
    say("stopped")


class _Server(uvicorn.Server):
    """Calls back when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that holds the port; UserError when it can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError):
        raise UserError(f"--host {host} is no address of this machine: use 127.0.0.1, or 0.0.0.0 for all.") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(1024)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"Port {port} is in use: choose another with --port, or --port 0 for any free one."
            ) from None
        if error.errno == errno.EACCES:
            raise UserError(f"Port {port} needs more rights: choose one above 1023 with --port.") from None
        raise UserError(f"--host {host} is no address of this machine: use 127.0.0.1, or 0.0.0.0 for all.") from None
    return made


def _known_data(known: str | Path | None, class_names: tuple[str, ...]) -> Dataset | None:
    """Return the data of --known; without it TissueMNIST, where it is here and has the model's classes."""
    if known is not None:
        return None if str(known) == "none" else load(known)
    if locate(DEFAULT_KNOWN) is None:
        return None
    with contextlib.suppress(UserError):  # nobody asked for it
        dataset = load(DEFAULT_KNOWN)
        return dataset if dataset.class_names == class_names else None
    return None


def _announce(listening: socket.socket, host: str | None, say: Say) -> None:
    name, port = listening.getsockname()[:2]
    shown = f"[{name}]" if ":" in name else name
    say(f"nephros serves on http://{shown}:{port} (Ctrl-C ends it)")
    if host is not None and not name.startswith("127.") and name != "::1":
        say("warning: anyone who can reach this address may use it; there is no password.")
