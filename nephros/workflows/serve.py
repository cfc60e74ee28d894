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
from nephros.data.load import find_local_file, load
from nephros.errors import NephrosError
from nephros.exporters.loading import load_predictor
from nephros.interpretability.similar_cells import build_reference_index
from nephros.server.app import create_app
from nephros.server.h11_timeouts import TimeoutProtocol
from nephros.server.sample_cells import build_sample_cells
from nephros.server.service import Service

DEFAULT_HOST = "127.0.0.1"
MAX_CONNECTIONS = 900
"""Connections at one time; more are answered 503."""
DEFAULT_REFERENCE_DATA = "tissuemnist"

Say = Callable[[str], None]


def serve(
    model: str | Path | None = None,
    *,
    host: str | None = None,
    port: int = 8000,
    reference_data: str | Path | None = None,
    dynamic_batching: bool = True,
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
        raise NephrosError(f"--port is {port}, but it must be 0 to 65535.")
    with contextlib.closing(_bind_socket(host or DEFAULT_HOST, port)) as sock:
        predictor = load_predictor(model, say=say)
        dataset = _load_reference_data(reference_data, predictor.class_names)
        reference_index = None if dataset is None else build_reference_index(predictor, dataset, say=say)
        examples = build_sample_cells(dataset)
        del dataset
        service = Service(predictor, reference_index, dynamic_batching=dynamic_batching)
        app = create_app(service, examples, loopback_only=host is None)
        config = uvicorn.Config(
            app, http=TimeoutProtocol, ws="none", log_level="warning", access_log=False, server_header=False,
            limit_concurrency=MAX_CONNECTIONS, timeout_graceful_shutdown=3, proxy_headers=False,
        )  # fmt: skip
        logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith("Cancel "))
        server = _NotifyingServer(config, lambda: _announce(sock, host, say))
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it once more when it has ended cleanly
            server.run(sockets=[sock])
    say("stopped")


class _NotifyingServer(uvicorn.Server):
    """Calls back when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def _bind_socket(host: str, port: int) -> socket.socket:
    """Return a socket that holds the port; UserError when it can't be had."""
    try:
        family, socket_type, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket_type, protocol)
    except (OSError, UnicodeError):
        raise NephrosError(f"--host {host} is no address of this machine: use 127.0.0.1, or 0.0.0.0 for all.") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise NephrosError(
                f"Port {port} is in use: choose another with --port, or --port 0 for any free one."
            ) from None
        if error.errno == errno.EACCES:
            raise NephrosError(f"Port {port} needs more rights: choose one above 1023 with --port.") from None
        raise NephrosError(f"--host {host} is no address of this machine: use 127.0.0.1, or 0.0.0.0 for all.") from None
    return sock


def _load_reference_data(reference_data: str | Path | None, class_names: tuple[str, ...]) -> Dataset | None:
    """Return the data of --reference-data; without it TissueMNIST, where it is here and has the model's classes."""
    if reference_data is not None:
        return None if str(reference_data) == "none" else load(reference_data)
    if find_local_file(DEFAULT_REFERENCE_DATA) is None:
        return None
    with contextlib.suppress(NephrosError):  # nobody asked for it
        dataset = load(DEFAULT_REFERENCE_DATA)
        return dataset if dataset.class_names == class_names else None
    return None


def _announce(sock: socket.socket, host: str | None, say: Say) -> None:
    name, port = sock.getsockname()[:2]
    url_host = f"[{name}]" if ":" in name else name
    say(f"nephros serves on http://{url_host}:{port} (Ctrl-C ends it)")
    if host is not None and not name.startswith("127.") and name != "::1":
        say("warning: anyone who can reach this address may use it; there is no password.")
