"""`nephros.serve`: a web page and a JSON API for a model, until the process is interrupted."""

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
from nephros.errors import InvalidArgument, NephrosError
from nephros.exporters.loading import load_predictor
from nephros.interpretability.similar_cells import build_reference_index
from nephros.server.app import create_app
from nephros.server.h11_timeouts import TimeoutProtocol
from nephros.server.sample_cells import build_sample_cells
from nephros.server.service import Service

DEFAULT_HOST = "127.0.0.1"
MAX_CONNECTIONS = 900
"""Connections at one time; further ones get status 503."""
DEFAULT_REFERENCE_DATA = "tissuemnist"

logger = logging.getLogger(__name__)


def serve(
    model: str | Path | None = None,
    *,
    host: str | None = None,
    port: int = 8000,
    reference_data: str | Path | None = None,
    dynamic_batching: bool = True,
) -> None:
    """Serve a model until the process is interrupted.

    Args:
        model: a run folder, an exported file, or None for the bundled model.
        host: address of this machine to listen on. None listens on loopback, and rejects requests under other host names.
        port: 0 picks a free one.
        reference_data: data whose training cells are shown as similar cells, as `nephros.load` takes it; ``"none"`` for
            none. None takes TissueMNIST if it is on this machine and fits the model.
        dynamic_batching: False runs the network on the cells of each request separately, to measure what batching gains.

    Raises:
        InvalidArgument: the host or the port can't be used.
        NephrosError: the model or the data can't be opened.
    """
    if not 0 <= port <= 65535:
        raise InvalidArgument("port", port, "0 to 65535")
    with contextlib.closing(_bind_socket(host or DEFAULT_HOST, port)) as sock:
        predictor = load_predictor(model)
        dataset = _load_reference_data(reference_data, predictor.class_names)
        reference_index = None if dataset is None else build_reference_index(predictor, dataset)
        samples = build_sample_cells(dataset)
        del dataset
        service = Service(predictor, reference_index, dynamic_batching=dynamic_batching)
        app = create_app(service, samples, loopback_only=host is None)
        config = uvicorn.Config(
            app, http=TimeoutProtocol, ws="none", log_level="warning", access_log=False, server_header=False,
            limit_concurrency=MAX_CONNECTIONS, timeout_graceful_shutdown=3, proxy_headers=False,
        )  # fmt: skip
        logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith("Cancel "))
        server = _NotifyingServer(config, lambda: _log_address(sock, host))
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after a clean shutdown
            server.run(sockets=[sock])
    logger.info("Server stopped.")


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
    """Return a socket that listens on the port; raise InvalidArgument if that is impossible."""
    invalid_host = InvalidArgument("host", host, "an address of this machine", hint="Use 0.0.0.0 for all of them.")
    try:
        family, socket_type, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket_type, protocol)
    except (OSError, UnicodeError):
        raise invalid_host from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            hint = "Another process is using it; 0 picks a free one."
            raise InvalidArgument("port", port, "a free port", hint=hint) from None
        if error.errno == errno.EACCES:
            raise InvalidArgument("port", port, "above 1023 without administrator rights") from None
        raise invalid_host from None
    return sock


def _load_reference_data(reference_data: str | Path | None, class_names: tuple[str, ...]) -> Dataset | None:
    """Return the data to take reference cells from, by default TissueMNIST if it is here and has the model's classes."""
    if reference_data is not None:
        return None if str(reference_data) == "none" else load(reference_data)
    if find_local_file(DEFAULT_REFERENCE_DATA) is None:
        return None
    with contextlib.suppress(NephrosError):  # a default that can't be read is no error
        dataset = load(DEFAULT_REFERENCE_DATA)
        return dataset if dataset.class_names == class_names else None
    return None


def _log_address(sock: socket.socket, host: str | None) -> None:
    name, port = sock.getsockname()[:2]
    url_host = f"[{name}]" if ":" in name else name
    logger.info("Serving on http://%s:%d (press Ctrl-C to stop)", url_host, port)
    if host is not None and not name.startswith("127.") and name != "::1":
        logger.warning("Anyone who can reach this address can use the server: it asks for no password.")
