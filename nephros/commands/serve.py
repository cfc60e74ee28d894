"""nephros serve."""

from __future__ import annotations

from nephros.commands.parser import MODEL_HELP, CommandParser, require_extra


def serve(argv: list[str]) -> int:
    """nephros serve"""
    parser = CommandParser(
        "serve",
        "A page in the browser, and a JSON API, that classify pictures of single cells with a trained model. Pictures stay in "
        "this machine's memory and are forgotten with the answer; the page loads nothing from elsewhere.",
        epilog="The page is at the address that is printed; /api describes the API, /openapi.json for programs. Example: "
        "curl -F files=@cell.png 'http://127.0.0.1:8000/predict?coverage=0.95'. For research only, not for diagnosis.",
    )
    parser.option(
        "host",
        "address to listen on, such as 0.0.0.0 to let others in; there is no password (default: this machine only)",
    )
    parser.option("port", "0 takes a free one (default: 8000)", int)
    parser.option("model", MODEL_HELP, metavar="M")
    parser.option(
        "reference-data",
        "show similar training cells of this data, a name such as tissuemnist or an npz file; none for none "
        "(default: TissueMNIST where it is on this machine)",
        metavar="DATA",
    )
    options = parser.parse_argv(argv)
    with require_extra(
        "Serving needs fastapi, uvicorn and python-multipart: pip install 'nephros[serve]'.",
        *("fastapi", "starlette", "pydantic", "uvicorn", "h11", "python_multipart"),
    ):
        from nephros.workflows.serve import serve as run_server
    run_server(options.pop("model", None), say=lambda line: print(line, flush=True), **options)
    return 0
