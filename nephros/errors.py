"""The errors that a user's own input raises, and the hint that names what they may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something that the user gave or asked for can't be used.

    The message is one plain sentence that names the file or flag, what was wrong and what to do. The command line prints
    it without a traceback and exits with status 2.
    """


class Diverged(UserError):
    """A training's loss, or its network's answers, became NaN or infinite."""


class Busy(UserError):
    """Another process is at work there."""


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of `options`, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
