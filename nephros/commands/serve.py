"""nephros serve."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from argparse import SUPPRESS
from collections.abc import Iterator
from typing import NoReturn

from nephros.commands.parser import MODEL_HELP, PRECISION_HELP, RUNTIME_HELP, TTA_HELP, CommandParser
from nephros.errors import require_extra

logger = logging.getLogger(__name__)


def serve(argv: list[str]) -> int:
    """nephros serve"""
    parser = CommandParser(
        "serve",
        "Serve a web page and a JSON API that classify images of single cells, and the nuclei of stacks. Images stay in this "
        "machine's memory, a stack in a temporary folder until it is read, and nothing is kept; the page loads nothing from "
        "other hosts.",
        epilog="Open the printed address in a browser. /api documents the API for people, /openapi.json for programs:\n\n"
        "  curl -F files=@cell.png 'http://127.0.0.1:8000/predict?coverage=0.95'\n\n"
        "To let other machines in, name the host as they see it; the token they need is printed:\n\n"
        "  nephros serve --host 0.0.0.0 --allow-host cells.example\n\n"
        "For research only, not for diagnosis.",
    )
    add_address_options(parser)
    parser.option("model", MODEL_HELP, metavar="M")
    parser.flag("tta", TTA_HELP)
    parser.option("precision", PRECISION_HELP)
    parser.option("runtime", RUNTIME_HELP)
    parser.option(
        "reference-data",
        "labeled data whose most similar training cells are shown: a name such as tissuemnist, an npz file, or none "
        "(default: the MedMNIST set that the model was trained on, if it is on this machine)",
        metavar="DATA",
    )
    parser.option(
        "project",
        "folder of a project, which is created if needed: its cells are shown and labeled at the address /annotate, and "
        "the folder keeps cells, labels and runs (default: none, and the server writes nothing)",
        metavar="FOLDER",
    )
    parser.option(
        "max-pixels",
        "pixels that the files of a request may have when decoded; /predict/batch takes 2.5 times as many, and "
        "a stack may have ten times as many voxels (default: 100000000)",
        int,
    )
    parser.option(
        "decode-timeout",
        "seconds for which the unusual files of a request, such as those of many pages or scans, are decoded before they get an "
        "error; /predict/batch takes 15 times as long (default: 20)",
        float,
        metavar="SECONDS",
    )
    options = parser.parse_argv(argv)
    with exit_on_sigterm():
        with require_serve_extra():
            from nephros.workflows.serve import serve as run_server
        run_server(options.pop("model", None), **options)
    return 0


def add_address_options(parser: CommandParser) -> None:
    """Declare where a server listens, and whom it lets in."""
    parser.option(
        "host",
        "address to listen on; 0.0.0.0 lets other machines in, and needs --allow-host (default: this machine only)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        type=str,
        default=SUPPRESS,
        metavar="NAME",
        help="name or address under which other machines open the page, such as cells.example or 192.168.1.5; may be repeated, "
        "or list several with commas. Requests for other names are rejected, and a token is required",
    )
    parser.option(
        "token",
        "secret that each request must carry, in the header 'Authorization: Bearer TOKEN' or, for the page, once as ?token=TOKEN "
        "in its address (default: the environment variable NEPHROS_TOKEN; else one is generated and printed if required)",
    )
    parser.option("port", "port to listen on; 0 picks a free one (default: 8000)", int)
    parser.option(
        "root-path",
        "path prefix under which a reverse proxy exposes the server, such as /nephros (default: none)",
        metavar="PATH",
    )


def require_serve_extra() -> contextlib.AbstractContextManager[None]:
    """Return the context in which the modules of the extra `serve` are imported."""
    return require_extra(
        "Serving needs fastapi, uvicorn, python-multipart and prometheus-client: pip install 'nephros[serve]'.",
        *("fastapi", "starlette", "pydantic", "uvicorn", "h11", "python_multipart", "prometheus_client"),
    )


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Within the block, SIGTERM ends the process with status 0: a server that is still loading is stopped, not killed."""

    def stop(*_: object) -> NoReturn:
        logger.info("Server stopped.")
        sys.exit(0)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
