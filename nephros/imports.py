"""Imports of large packages without garbage collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Import torch and the like within this block: what they create stays, so looking for garbage in it is in vain.

    Torch alone creates some 400,000 objects, and the collector would go through all of them several times: a tenth of the time.
    Afterwards they count as old, and are looked through as seldom as if they had survived that.
    """
    if not gc.isenabled():  # the program's own choice, or another import
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:  # a program's own frozen objects would be thawed
            gc.freeze()
            gc.unfreeze()
        gc.enable()
