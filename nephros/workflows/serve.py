"""`nephros.serve`: a web page and a JSON API for a model, until the process is interrupted."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import quote

import uvicorn

from nephros.data.dataset import Dataset
from nephros.data.load import find_local_file, load_dataset
from nephros.data.medmnist import MEDMNIST
from nephros.errors import InvalidArgument, NephrosError
from nephros.exporters.loading import load_classifier
from nephros.inference.bundled import DEFAULT_MODEL, bundled_names
from nephros.inference.model_names import bundled_card, bundled_model_name
from nephros.inference.predictor import Predictor
from nephros.inference.runtimes import DEFAULT_RUNTIME
from nephros.interpretability.similar_cells import ReferenceIndex, build_reference_index
from nephros.server.access import (
    AccessPolicy,
    check_token_text,
    host_name,
    is_loopback,
    parse_allowed_hosts,
    parse_root_path,
)
from nephros.server.app import create_app
from nephros.server.h11_timeouts import MAX_HEAD_BYTES, TimeoutProtocol
from nephros.server.limits import request_limits, stack_limits
from nephros.server.model_choice import ModelEntry
from nephros.server.sample_cells import build_sample_cells
from nephros.server.service import Service

if TYPE_CHECKING:
    from nephros.server.project.session import ProjectSession

DEFAULT_HOST = "127.0.0.1"
MAX_CONNECTIONS = 900
"""Connections at one time; further ones get status 503."""
DEFAULT_REFERENCE_DATA = "tissuemnist"
TOKEN_VARIABLE = "NEPHROS_TOKEN"
"""Environment variable with the token, which a process list does not show."""
INTERRUPT_GRACE_S, TERMINATE_GRACE_S = 3, 25
"""Seconds that requests under way have left after Ctrl-C, and after SIGTERM (Kubernetes kills after 30)."""

logger = logging.getLogger(__name__)


def serve(
    model: str | Path | None = None,
    *,
    host: str | None = None,
    port: int = 8000,
    tta: bool = False,
    precision: str = "auto",
    runtime: str = DEFAULT_RUNTIME,
    reference_data: str | Path | None = None,
    allow_host: str | Sequence[str] = (),
    token: str | None = None,
    root_path: str = "",
    max_pixels: int | None = None,
    decode_timeout: float | None = None,
    dynamic_batching: bool = True,
    project: str | Path | None = None,
) -> None:
    """Serve a model until the process is interrupted or terminated; requests under way are finished.

    Nothing is written, except with a `project`: its folder holds the labels of its cells.

    Args:
        model: a run folder, an exported file, or None for the bundled model.
        host: address of this machine to listen on; None listens on loopback. With an address that other machines reach,
            `allow_host` must be given.
        port: 0 picks a free one.
        tta: predict with test-time augmentation, as `Predictor.with_tta` does: more accurate, and several times slower.
        precision: auto, float32 or int8, as `nephros.load_classifier` takes it.
        runtime: onnxruntime or openvino, as `nephros.load_classifier` takes it.
        reference_data: data whose training cells are shown as similar cells, as `nephros.load_dataset` takes it; ``"none"`` for
            none. None takes the MedMNIST set that the model was trained on, or TissueMNIST, if it is on this machine and fits.
        allow_host: names under which the server may be addressed besides localhost and 127.0.0.1, against DNS rebinding:
            host names or addresses, with the port where a proxy's is another than the server's. Others are rejected.
        token: asked of every request, as ``Authorization: Bearer`` or by the page's cookie. None takes the environment
            variable NEPHROS_TOKEN; without it one is generated where `allow_host` lets others in, and none is asked for
            elsewhere.
        root_path: path prefix at which a reverse proxy offers the server, such as ``"/nephros"``; the page's links begin with
            it. The proxy may strip it from requests or leave it there.
        max_pixels: decoded pixels in all files of a request to /predict; None takes 100 million. /predict/batch takes 2.5 times
            as many, and a stack may have ten times as many voxels.
        decode_timeout: seconds for which the files of a request to /predict are decoded, where that may take long; None takes
            20. /predict/batch takes 15 times as long.
        dynamic_batching: False runs the network on the cells of each request separately, to measure what batching gains.
        project: folder of a project whose cells are labeled in the page /annotate; it is created if needed. One process
            serves a project at a time.

    Raises:
        InvalidArgument: the host, the port, a name, the token, the prefix or a limit can't be used.
        LockedError: another process serves the project.
        NephrosError: the model, the data or the project can't be opened.
    """
    if not 0 <= port <= 65535:
        raise InvalidArgument("port", port, "0 to 65535")
    root_path = parse_root_path(root_path)
    limits, batch_limits = request_limits(max_pixels, decode_timeout)
    with contextlib.ExitStack() as scope:
        sock = scope.enter_context(contextlib.closing(_bind_socket(host or DEFAULT_HOST, port)))
        access, is_generated = _access_policy(sock, host, parse_allowed_hosts(allow_host), token)
        session = None if project is None else scope.enter_context(_open_project(project, model))
        predictor = load_classifier(model, tta=tta, precision=precision, runtime=runtime)
        predictor.check_takes_images("the page")
        dataset, reference_index = _reference_cells(reference_data, predictor)
        samples = build_sample_cells(dataset, synthetic=predictor.input_shape[0] == 1)
        del dataset
        service = Service(predictor, reference_index, dynamic_batching=dynamic_batching)
        app = create_app(
            service,
            samples,
            access=access,
            root_path=root_path,
            limits=limits,
            batch_limits=batch_limits,
            stack_limits=stack_limits(max_pixels),
            project=session,
            model_name=_model_name(model),
            more_models=_other_bundled_models(model, tta, precision, runtime),
        )
        config = uvicorn.Config(
            app, http=TimeoutProtocol, ws="none", log_level="warning", access_log=False, server_header=False,
            limit_concurrency=MAX_CONNECTIONS, h11_max_incomplete_event_size=MAX_HEAD_BYTES, proxy_headers=False,
            timeout_graceful_shutdown=INTERRUPT_GRACE_S,
        )  # fmt: skip
        logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith("Cancel "))
        server = _Server(config, lambda: _log_address(sock, root_path, access, is_generated, session), session)
        with (
            contextlib.suppress(KeyboardInterrupt),
            server.stop_on_sigterm(),
        ):  # uvicorn raises both after a clean shutdown
            server.run(sockets=[sock])
    logger.info("Server stopped.")


class _Server(uvicorn.Server):
    """Calls back when it is ready, and gives requests more time to end when it is terminated than when it is interrupted."""

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], project: ProjectSession | None = None
    ) -> None:
        super().__init__(config)
        self._on_ready, self._project = on_ready, project

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._project is not None:
            self._project.events.close()  # streams without an end would use up the time that requests have left
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM:
            self.config.timeout_graceful_shutdown = TERMINATE_GRACE_S
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def stop_on_sigterm(self) -> Iterator[None]:
        """Stop on SIGTERM also before and after uvicorn handles it, so that a clean shutdown ends with status 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "should_exit", True))
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _open_project(root: str | Path, model: str | Path | None) -> Iterator[ProjectSession]:
    """Open a project, or make it, and keep it locked within the block."""
    from nephros.annotation.jobs import FinetuneJobs  # without a project, scikit-learn is not needed
    from nephros.annotation.model import AnnotationModel
    from nephros.annotation.project import Project
    from nephros.server.project.session import ProjectSession

    project = Project.create_or_open(root, model=model)
    with contextlib.closing(project), project.lock():
        yield ProjectSession(project, AnnotationModel(project, project.load_predictor()), FinetuneJobs(project))


def _model_name(model: str | Path | None) -> str:
    """Return the name by which requests may name the model: a file's or folder's own, never its path."""
    return DEFAULT_MODEL if model is None else bundled_model_name(str(model)) or Path(model).stem


def _other_bundled_models(model: str | Path | None, tta: bool, precision: str, runtime: str) -> list[ModelEntry]:
    """Return the bundled models besides the default one, where no model is named."""
    if model is not None:
        return []
    return [
        ModelEntry(
            name,
            bundled_card(name),
            functools.partial(load_classifier, name, tta=tta, precision=precision, runtime=runtime),
        )
        for name in bundled_names()
        if name != DEFAULT_MODEL
    ]


def _access_policy(
    sock: socket.socket, host: str | None, allowed_hosts: tuple[str, ...], token: str | None
) -> tuple[AccessPolicy, bool]:
    """Return which requests are accepted, and whether its token was generated."""
    is_local = is_loopback(sock.getsockname()[0])
    if not is_local and not allowed_hosts:
        raise InvalidArgument(
            "allow_host",
            "empty",
            f"set together with the host {host}, which other machines can reach",
            hint="Name the addresses under which they open the page, such as cells.example or 192.168.1.5.",
        )
    token = os.environ.get(TOKEN_VARIABLE) or None if token is None else token
    if token is not None:
        return AccessPolicy(allowed_hosts, check_token_text(token)), False
    is_needed = not is_local or not all(is_loopback(host_name(allowed)) for allowed in allowed_hosts)
    return AccessPolicy(allowed_hosts, secrets.token_urlsafe(18) if is_needed else None), is_needed


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


def _reference_cells(
    reference_data: str | Path | None, predictor: Predictor
) -> tuple[Dataset | None, ReferenceIndex | None]:
    """Return the data to take reference cells from, and their index.

    By default that is the MedMNIST set that the model was trained on, or TissueMNIST, if it is here and fits the model.
    """
    conversion, shape = predictor.input_conversion, predictor.input_shape
    if reference_data is not None:
        if str(reference_data) == "none":
            return None, None
        dataset = load_dataset(reference_data, conversion=conversion, shape=shape)
        return dataset, build_reference_index(predictor, dataset)
    key = predictor.card["data"]["key"]
    name, size = key if key in MEDMNIST else DEFAULT_REFERENCE_DATA, shape[1]
    with contextlib.suppress(NephrosError):  # a default that can't be read, or doesn't fit, is no error
        if find_local_file(name, size) is not None:
            dataset = load_dataset(name, size=size, conversion=conversion, shape=shape)
            if dataset.class_names == predictor.class_names:
                return dataset, build_reference_index(predictor, dataset)
    return None, None


def _log_address(
    sock: socket.socket, root_path: str, access: AccessPolicy, is_generated: bool, project: ProjectSession | None
) -> None:
    address, port = sock.getsockname()[:2]
    url_host = f"[{address}]" if ":" in address else address
    prefix = f"below {root_path} " if root_path else ""
    logger.info("Serving on http://%s:%d %s(press Ctrl-C to stop)", url_host, port, prefix)
    page = "/"
    if project is not None:
        page = "/annotate"
        logger.info("Label the cells of %s at http://%s:%d%s%s", project.project.name, url_host, port, root_path, page)
    if access.token is None:
        return
    if not is_loopback(address):
        url_host = host_name(access.allowed_hosts[0])
    query = f"?token={quote(access.token, safe='')}" if is_generated else "?token=TOKEN, with the token that was given"
    # Shown with --quiet too: without it nobody gets in. A token that was given is not repeated, since logs are kept.
    url = f"http://{url_host}:{port}{root_path}{page}{query}"
    logger.warning("Whoever has this address can use the server: %s", url)
