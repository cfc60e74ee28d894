"""The command line: finds the command, shows the library's messages, and turns every error into one sentence."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import io
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from typing import NoReturn

from nephros.commands.registry import COMMANDS, DATA_COMMANDS, load_command
from nephros.errors import NephrosError, did_you_mean
from nephros.escaping import escape_for_terminal

USAGE = """\
usage: nephros COMMAND ...

Train, tune, evaluate, explain and serve classifiers of kidney-cell images.

  train [RECIPE|FILE.yaml]   train a recipe on a data set, evaluate the result and write its report
  finetune DATA              fit the bundled model to classes of your own, from twenty labels per class
  evaluate RUN               evaluate a trained run on its validation or test split, or on other data
  tune [RECIPE|FILE.yaml]    search for a recipe's best values with Hyperband
  predict INPUT...           classify cell images (files, folders, stacks) with the bundled model or another one
  serve                      classify cell images in a browser, or through a JSON API
  annotate PROJECT [DATA...] label cells in a browser, with a model that learns from each label
  export RUN                 write a trained model with its preprocessing and model card to one file, for ONNX or torch
  report RUN                 write a run's report again
  compare RUN...             compare runs with one another and with published results
  reproduce PLAN             train the runs behind this project's tables: baselines, labels, nephros or transfer
  models                     list the models that come with nephros, with their accuracy and cost
  recipes [NAME]             list the recipes, or print one as a YAML file to edit
  data list                  list MedMNIST's data sets: tasks, sizes and licenses
  data info NAME|PATH        describe a data set
  data get NAME              download a MedMNIST data set
  data prepare STACK         cut the nuclei out of a 3-D fluorescence stack, as was done for TissueMNIST
  data overlay FILE.json     paint predicted classes over the stack that the nuclei came from

First steps:
  nephros data get tissuemnist           download the data, 125 MB
  nephros train course-3 --test          train a small network; prints the path of its report
  nephros predict cell.png               classify an image with the bundled model; needs no data
  nephros recipes nephros > mine.yaml    edit the file, then: nephros train mine.yaml

`nephros COMMAND --help` explains a command. All take --quiet (results, warnings and errors only), --verbose (more detail) and
--debug (the traceback of an error). `nephros --version` prints the version.
"""

LEVELS = {"--quiet": logging.WARNING, "--verbose": logging.DEBUG}


def main(argv: list[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 when all went well, 2 for input that can't be used, 1 for any other failure."""
    from nephros.environment import set_process_defaults

    set_process_defaults()  # before any command imports torch
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as for stderr: not every locale has all characters
    # No search for garbage in what ends with the process anyway: it takes up to a fifth of a second.
    atexit.register(gc.freeze)
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    level = next((LEVELS[arg] for arg in args if arg in LEVELS), logging.INFO)
    args = [arg for arg in args if arg != "--debug" and arg not in LEVELS]
    try:
        with _messages(args, level):
            sys.exit(_dispatch(args))
    except (KeyboardInterrupt, Exception) as error:
        if debug:
            raise
        _fail(*_failure(error, args))


@contextlib.contextmanager
def _messages(args: list[str], level: int) -> Iterator[None]:
    """Let a command's messages and progress bars through, as far as the level goes."""
    if not args or args[0] not in COMMANDS:
        yield
        return
    from nephros.commands.messages import library_messages
    from nephros.console import progress_bars

    with library_messages(level), progress_bars(level < logging.WARNING):
        yield


def _failure(error: BaseException, args: list[str]) -> tuple[str, int]:
    """Return the sentence that says what went wrong, and the exit status."""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped; {_recovery_hint(error, args)}.", 130
    if isinstance(error, NephrosError | ConnectionAbortedError):
        from nephros.commands.messages import to_command_line

        return to_command_line(str(error)), 2 if isinstance(error, NephrosError) else 1
    if isinstance(error, OSError):
        return _os_error_message(error, args), 1
    if type(error).__name__ == "OutOfMemoryError":
        return "the GPU's memory is full: lower --batch_size, or use --device cpu.", 1
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "the memory is full: lower --batch_size or the size of the network, or end other programs.", 1
    return f"internal error ({type(error).__name__}: {error}): run again with --debug and report what it prints.", 1


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if args else 2
    if args[0] == "--version":
        from nephros.environment import __version__

        print(f"nephros {__version__}")
        return 0
    command, rest = args[0], args[1:]
    if command not in COMMANDS:
        raise NephrosError(
            f"There is no command '{command}'.{did_you_mean(command, COMMANDS)} `nephros --help` lists them."
        )
    if command == "data":
        if rest and rest[0] in ("-h", "--help"):
            print("usage: nephros data COMMAND ...\n\n" + "".join(_usage_lines("data")), end="")
            return 0
        if not rest:
            raise NephrosError(
                "`nephros data` needs one of: list, info NAME|PATH, get NAME, prepare STACK, overlay FILE.json."
            )
        if rest[0] not in DATA_COMMANDS:
            suggestion = did_you_mean(rest[0], DATA_COMMANDS)
            raise NephrosError(
                f"There is no command '{rest[0]}' of `nephros data`.{suggestion} `nephros data --help` lists them."
            )
        command, rest = f"data {rest[0]}", rest[1:]
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return load_command(command)(rest)
    from nephros.distributed import process_group

    with process_group():  # all of torchrun's processes, so that any error, a misspelled flag too, is reported once
        if command != "train":
            raise NephrosError(f"torchrun is for `nephros train`: run `nephros {command}` without it.")
        return load_command(command)(rest)


def _usage_lines(command: str) -> list[str]:
    return [line for line in USAGE.splitlines(keepends=True) if line.startswith(f"  {command} ")]


def _fail(message: str, status: int) -> NoReturn:
    print(f"nephros: {escape_for_terminal(message)}", file=sys.stderr)
    sys.exit(status)


def _recovery_hint(error: BaseException, args: list[str]) -> str:
    """Return what an interrupted command leaves behind, or how to continue it."""
    if args[:1] == ["reproduce"]:
        return f"`nephros {shlex.join(args)}` continues after the last complete epoch"
    if notes := getattr(error, "__notes__", []):
        from nephros.commands.messages import to_command_line

        return to_command_line(notes[-1])
    return "nothing was written" if args[:1] in (["predict"], ["export"]) else "run the same command again"


def _os_error_message(error: OSError, args: list[str]) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full{where}: free some space and run again; {_recovery_hint(error, args)}."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"permission denied{where}: choose a place that you can write to."
    return f"{error.strerror or error}{where}: correct this and run again."
