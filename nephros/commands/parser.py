"""A command's flags: how they are declared, read from words, and refused in one sentence."""

from __future__ import annotations

import contextlib
import re
from argparse import SUPPRESS
from collections.abc import Callable, Iterator
from typing import Any

from jsonargparse import ArgumentParser

from nephros.errors import UserError, did_you_mean
from nephros.recipe_io import tidy

DATA = "a name such as tissuemnist, the path of an npz file or of a folder with one sub-folder a class, or synthetic"
DATA_FLAG = f"{DATA} (default: tissuemnist)"
DEVICE = "auto, cpu or cuda (default: auto)"
MODEL = "a run folder, or a file that `nephros export` wrote (default: the model that comes with nephros)"
RUN = "a folder that `nephros train` made"


class Flags(ArgumentParser):
    """A command's parser. What is not given stays out of what is parsed, so that defaults live where they are used."""

    def __init__(self, name: str, description: str, **options: Any) -> None:
        """Take the command's name and help; `options` are ArgumentParser's own."""
        options |= {"exit_on_error": False, "allow_abbrev": False}
        super().__init__(prog=f"nephros {name}", description=description, **options)

    def optional(self, name: str, help: str) -> None:
        """Declare a word that may be left out."""
        self.add_argument(name, nargs="?", default=SUPPRESS, help=help)

    def value(self, name: str, help: str, kind: Callable[[str], Any] = str, shown: str | None = None) -> None:
        """Declare a flag with a value, which the help calls `shown`."""
        self.add_argument(f"--{name}", type=kind, default=SUPPRESS, help=help, metavar=shown)

    def needed(self, name: str, help: str, shown: str) -> None:
        """Declare a flag with a value that must be given."""
        self.add_argument(f"--{name}", type=str, required=True, help=help, metavar=shown)

    def switch(self, name: str, help: str) -> None:
        """Declare a flag without a value."""
        self.add_argument(f"--{name}", action="store_true", default=SUPPRESS, help=help)

    def read(self, words: list[str]) -> dict[str, Any]:
        """Return only what `words` give; UserError in one sentence, with the nearest flag, for what is not understood.

        A flag may be written with - for _ and with _ for -.
        """
        flags = [option for action in self._actions for option in action.option_strings]
        spelt = {flag.replace("-", "_"): flag for flag in flags}
        try:
            return dict(self.parse_args([_spelt(word, spelt) for word in words], defaults=False).as_dict())
        except Exception as error:
            message = str(error)
            unknown = re.search(r"unrecognized arguments: (\S+)", message)
            if unknown:
                flag = unknown[1].split("=")[0]
                near = did_you_mean(flag, flags)
                raise UserError(f"'{flag}' is not understood.{near} `{self.prog} --help` lists the flags.") from None
            raise UserError(f"{tidy(message)} `{self.prog} --help` tells more.") from None


def _spelt(word: str, spelt: dict[str, str]) -> str:
    flag, equals, value = word.partition("=")
    return spelt.get(flag.replace("-", "_"), flag) + equals + value if word.startswith("--") else word


@contextlib.contextmanager
def needs(sentence: str, *modules: str) -> Iterator[None]:
    """Within the block, a `sentence` where one of these modules of an extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in modules:
            raise
        raise UserError(sentence) from None


def needs_optuna() -> contextlib.AbstractContextManager[None]:
    """Return the block of what nephros[tune] brings."""
    return needs("Tuning needs Optuna: pip install 'nephros[tune]'.", "optuna", "sqlalchemy", "fsspec")
