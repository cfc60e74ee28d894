"""The commands: each is a thin call into the library. Heavy imports wait until a command needs them."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import NoReturn

from nephros.errors import UserError, did_you_mean

USAGE = """\
usage: nephros COMMAND ...

Train, tune, judge and report classifiers of kidney-cell images.

  train [RECIPE|FILE.yaml]   train a recipe on a data set; judge it and write its report
  evaluate RUN               score a trained run on validation or test
  tune [RECIPE|FILE.yaml]    search a recipe's best values by Hyperband; --resume and --show STUDY
  predict INPUT...           classify pictures of cells: files, folders or npz, with the model in the box or --model
  serve                      a page in the browser and a JSON API that do the same
  export RUN                 write a trained model as one ONNX or safetensors file with its card
  report RUN                 write a run's report again
  compare RUN...             runs beside each other and beside published results
  reproduce seeds            train all that the results pages show, and write their tables; also labels, ours
  recipes [NAME]             list the recipes, or print one as a YAML file to edit
  data info NAME|PATH        say what a data set holds
  data get NAME              download a MedMNIST set
  data prepare STACK         cut nuclei out of a 3-D fluorescence stack, as TissueMNIST's were
  data overlay FILE.json     paint predicted classes over the stack that cells came from

First steps:
  nephros data get tissuemnist
  nephros train course-3 --test
  nephros recipes nephros > mine.yaml    (edit it)    nephros train mine.yaml

`nephros COMMAND --help` tells more; --version prints the version; --debug shows where an error came from.
"""

COMMANDS = (
    "train",
    "evaluate",
    "tune",
    "predict",
    "serve",
    "export",
    "report",
    "compare",
    "reproduce",
    "recipes",
    "data",
)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 when all went well, 2 for input that can't be used, 1 for a failure of our own."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        sys.exit(_run(words))
    except KeyboardInterrupt:
        if debug:
            raise
        _fail(f"stopped; {_afterwards(words)}.", 130)
    except UserError as error:
        if debug:
            raise
        _fail(str(error), 2)
    except ConnectionAbortedError as error:
        if debug:
            raise
        _fail(str(error), 1)
    except OSError as error:
        if debug:
            raise
        _fail(_system_trouble(error, words), 1)
    except Exception as error:
        if debug:
            raise
        if type(error).__name__ == "OutOfMemoryError":
            _fail("the GPU's memory is full: lower --batch_size, or use --device cpu.", 1)
        _fail(
            f"a fault of nephros's own ({type(error).__name__}: {error}): run again with --debug and report what it prints.",
            1,
        )


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if words else 2
    if words[0] == "--version":
        from nephros.environment import __version__

        print(f"nephros {__version__}")
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        raise UserError(
            f"There is no command '{command}'.{did_you_mean(command, COMMANDS)} `nephros --help` lists them."
        )
    if command == "data":
        verbs = ("info", "get", "prepare", "overlay")
        if not rest or rest[0] not in (*verbs, "-h", "--help"):
            raise UserError("`nephros data` needs one of: info NAME|PATH, get NAME, prepare STACK, overlay FILE.json.")
        if rest[0] in verbs:
            command, rest = f"data {rest[0]}", rest[1:]
    from nephros.commands import data, data_stacks, export, predict, results, serve, train, tune

    run: dict[str, Callable[[list[str]], int]] = {
        "train": train.train,
        "evaluate": results.evaluate,
        "tune": tune.tune,
        "predict": predict.predict,
        "serve": serve.serve,
        "export": export.export,
        "report": results.report,
        "compare": results.compare,
        "reproduce": results.reproduce,
        "recipes": data.recipes,
        "data": data.info,
        "data info": data.info,
        "data get": data.get,
        "data prepare": data_stacks.prepare,
        "data overlay": data_stacks.overlay,
    }
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return run[command](rest)
    from nephros.distributed import joined

    with joined():  # all of torchrun's processes, so that whatever goes wrong, a misspelt flag too, is said once
        if command != "train":
            raise UserError(f"torchrun is for `nephros train`: run `nephros {command}` without it.")
        return run[command](rest)


def _fail(message: str, status: int) -> NoReturn:
    print(f"nephros: {message}", file=sys.stderr)
    sys.exit(status)


def _afterwards(words: list[str]) -> str:
    """Return what a command that was cut off leaves, or how it is taken on."""
    if words[:1] in (["predict"], ["export"]):
        return "nothing was written"
    if words[:1] in (["train"], ["tune"], ["reproduce"]):
        return f"`nephros {_going_on(words)}` goes on after the last whole epoch"
    return "run the same command again"


def _going_on(words: list[str]) -> str:
    """Return how a command that was stopped is taken on."""
    if words[:1] == ["reproduce"]:
        return shlex.join(words)
    if words[:1] != ["tune"]:
        return "train --resume RUN"
    named = [after for flag, after in pairwise(words) if flag in ("--name", "--resume")]
    return f"tune --resume {shlex.quote(named[-1]) if named else 'STUDY'}"


def _system_trouble(error: OSError, words: list[str]) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full{where}: free some space and run again; {_afterwards(words)}."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission{where}: name a place that you may write to."
    return f"the system answered '{error.strerror or error}'{where}: mend that and run again."
