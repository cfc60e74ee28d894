"""NVIDIA's multi-process service, by which kernels of several processes run on a GPU at the same time."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

CONTROL = "nvidia-cuda-mps-control"
_SECONDS_TO_QUIT = 20.0


@contextlib.contextmanager
def shared_gpu(works: Callable[[], bool]) -> Iterator[bool]:
    """Run the service within the block, for processes that begin there; yield whether it runs.

    It is stopped at once where `works`, which tries to compute in a new process, returns False with it: a service that does not
    work would keep every process from the GPU. RuntimeError where that fails without the service, too.
    """
    with contextlib.ExitStack() as stack:
        is_shared = False
        if shutil.which(CONTROL) is not None:
            service = stack.enter_context(contextlib.ExitStack())
            is_shared = service.enter_context(_service()) and works()
            if not is_shared:
                service.close()
        if not is_shared and not works():
            raise RuntimeError("A process could not compute on the GPU, as its last lines above say.")
        yield is_shared


@contextlib.contextmanager
def _service() -> Iterator[bool]:
    """Run the service within the block; yield whether it began."""
    with tempfile.TemporaryDirectory(prefix="mps-", ignore_cleanup_errors=True) as folder:
        variables = {f"CUDA_MPS_{name}_DIRECTORY": folder for name in ("PIPE", "LOG")}
        os.environ.update(variables)
        try:
            yield _control("-d")
        finally:
            _control(commands="quit\n")
            for name in variables:
                del os.environ[name]


def _control(*options: str, commands: str = "") -> bool:
    """Call the service's program; return whether it succeeded."""
    try:
        completed = subprocess.run(  # not through pipes, which a daemon may keep open
            [CONTROL, *options],
            input=commands,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS_TO_QUIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return completed.returncode == 0
