"""Options of a command: how they are declared and parsed, and how mistakes are reported in one sentence."""

from __future__ import annotations

import contextlib
import re
import shlex
from argparse import SUPPRESS
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser

from nephros.commands.help_format import HelpFormatter
from nephros.commands.messages import use_flags
from nephros.commands.unknown_options import end_if_inspected, unknown_option_message
from nephros.errors import InvalidArgument, NephrosError, require_extra
from nephros.recipe_io import parse_error

DATA_HELP = (
    "a MedMNIST name such as tissuemnist, an npz file, a folder with one subfolder of images per class, a CSV table of files "
    "and labels, or synthetic"
)
DATA_OPTION_HELP = f"{DATA_HELP} (default: tissuemnist)"
WHITE_LEVEL_HELP = (
    "pixel value that becomes 255 in a folder's images of more than 8 bits, such as 4095 (default: the folder's brightest); "
    "`nephros predict` takes it from the model"
)
LEVEL_HELP = (
    "pyramid level of an OME-Zarr store, OME-TIFF, Imaris or CZI file, 0 for the finest; auto takes the coarsest that is as "
    "fine as the training data (default: 0)"
)
CHANNEL_HELP = (
    "color plane of the images to train on, in grayscale: 0 red, 1 green, 2 blue (default: colors as they are)"
)
GROUP_RULES_HELP = (
    "the name of an npz file's array or a table's column, such as stack or patient; subfolders, those of the "
    "class folders; folders, those around the class folders; names, of the files (P01_cell2.png); none; or auto, which takes the "
    "array or column that is named like patients or stacks, else subfolders"
)
GROUPS_HELP = (
    "which images are of one patient, stack or slide, so that a split drawn here, --resplit and the folds of `nephros finetune` "
    f"keep them together: {GROUP_RULES_HELP} (default: auto)"
)
MASK_HELP = (
    "label image of the stack's size, TIFF or .npy: 0 outside, and a unique positive integer per nucleus; or the zip archive of "
    "ImageJ's ROI manager, with a region per nucleus; for several stacks a "
    "pattern such as '{stem}_mask.tif', beside each stack or in the working folder; of an OME-Zarr store the name of a label "
    "image in it (default: the only one in the store, else segment the nuclei roughly, by Otsu threshold and watershed)"
)
SEGMENT_HELP = (
    "how to segment the nuclei where there is no mask: rough (Otsu threshold and watershed), or cellpose or stardist, where "
    "these packages are installed (default: rough)"
)
STITCH_HELP = (
    "for a mask whose ids count within each slice only, as of cellpose or StarDist in 2-D: objects of neighboring slices are one "
    "nucleus where their intersection over union is at least this, such as 0.25 (default: take the ids as they are)"
)
VOXEL_SIZE_EXPECTED = "Z,Y,X in micrometers, such as 1,0.5,0.5"
DEVICE_HELP = "auto, cpu or cuda (default: auto)"
MODEL_HELP = (
    "a name that `nephros models` lists, a run folder, or a file that `nephros export` wrote (default: "
    "nephros-distilled)"
)
TTA_HELP = (
    "average over several views of each image (test-time augmentation): those of the model's recipe, or the image and its four "
    "shifts by a pixel; a little more accurate, and as many times slower as there are views"
)
PRECISION_HELP = (
    "float32, int8 or auto, which takes int8 where the model comes in both and the processor gains by it, and float32 elsewhere; "
    "name one, here or in NEPHROS_PRECISION, for the same digits on every processor (default: auto)"
)
RUNTIME_HELP = "onnxruntime, or openvino where it is installed, on the CPU in float32 (default: onnxruntime)"
_MOVED_DATA_HELP = "where the {0}'s data is now (default: where the {0} found it, or the same file near the {0} folder)"
MOVED_DATA_HELP, MOVED_STUDY_DATA_HELP = map(_MOVED_DATA_HELP.format, ("run", "study"))
RUN_HELP = "a run folder, written by `nephros train` or `nephros finetune`"


class CommandParser(ArgumentParser):
    """Parser of a command. Options that aren't given are absent from the result, so defaults live in the library only."""

    def __init__(self, name: str, description: str, **kwargs: Any) -> None:
        """Create the parser of `nephros {name}`; `kwargs` are ArgumentParser's."""
        kwargs |= {"exit_on_error": False, "allow_abbrev": False, "formatter_class": HelpFormatter}
        super().__init__(prog=f"nephros {name}", description=description, **kwargs)

    def optional_positional(self, name: str, help: str) -> None:
        """Declare a positional argument that may be left out."""
        self.add_argument(name, nargs="?", default=SUPPRESS, help=help)

    def option(self, name: str, help: str, type: Callable[[str], Any] = str, metavar: str | None = None) -> None:
        """Declare an option with a value, which the help calls `metavar`."""
        self.add_argument(f"--{name}", type=type, default=SUPPRESS, help=help, metavar=metavar)

    def required_option(self, name: str, help: str, metavar: str) -> None:
        """Declare a required option with a value."""
        self.add_argument(f"--{name}", type=str, required=True, help=help, metavar=metavar)

    def flag(self, name: str, help: str) -> None:
        """Declare an option without a value."""
        self.add_argument(f"--{name}", action="store_true", default=SUPPRESS, help=help)

    def training_data_options(self, *, takes_stacks: bool = False) -> None:
        """Declare what `nephros.load_dataset` takes besides the source, and `nephros.train` and `nephros.finetune` pass to it."""
        self.option(
            "size",
            "pixels per side: the 28, 64, 128 or 224 version of a MedMNIST set, or what the images of a folder or an "
            "npz file are resized to, padded with black to keep their aspect ratio",
            int,
        )
        self.option("subset", "train on this many images, drawn in proportion to the classes", int)
        self.option(
            "resplit",
            "draw the train and validation splits anew from the two combined, with these numbers of images",
            metavar="TRAIN,VAL",
        )
        self.option("data-seed", "seed of a folder's split, of --subset and of --resplit (default: 0)", int)
        self.option("white-level", WHITE_LEVEL_HELP, float, "VALUE")
        if takes_stacks:
            self.option(
                "channel",
                f"{CHANNEL_HELP}; for stacks the number or name of the channel with the nuclei",
                index_or_name,
            )
        else:
            self.option("channel", CHANNEL_HELP, int)
        self.option("groups", GROUPS_HELP)

    def class_table_options(self) -> None:
        """Declare what `nephros.prepare` takes besides stacks and masks to give nuclei classes and patients."""
        self.option(
            "classes",
            "table of the nuclei's classes: CSV or TSV with the columns id and class, and perhaps stack and patient; or as "
            "QuPath (measurements, GeoJSON), Fiji, napari and CellProfiler write it. Without ids, its centroids are matched with "
            "the mask. For several stacks one table with a column stack, or a pattern such as '{stem}.csv'. Nuclei without a "
            "class stay unlabeled",
            metavar="TABLE",
        )
        self.option(
            "id-column",
            "its column with the ids of the nuclei in the mask (default: recognized by its name)",
            metavar="NAME",
        )
        self.option("class-column", "its column with the classes (default: recognized by its name)", metavar="NAME")
        self.option(
            "patient",
            "pattern of a stack's name that says which patient or animal it is of, such as '{patient}_*', or of the end of its "
            "path, such as '{patient}/*'",
            metavar="PATTERN",
        )

    def parse_argv(self, argv: list[str]) -> dict[str, Any]:
        """Return parameter -> value for the options in `argv`; raises NephrosError for what can't be parsed.

        `-` and `_` are interchangeable in the names of options.
        """
        flags = [option for action in self._actions for option in action.option_strings]
        end_if_inspected(flags)
        use_flags(self._flags_by_parameter())
        canonical = {flag.replace("-", "_"): flag for flag in flags}
        try:
            return dict(self.parse_args([_canonicalize(arg, canonical) for arg in argv], defaults=False).as_dict())
        except Exception as error:
            raise self._argument_error(str(error), flags) from None

    def _flags_by_parameter(self) -> dict[str, str]:
        """Return parameter -> its option, or the name of a positional argument in capitals."""
        return {
            action.dest: action.option_strings[0]
            if action.option_strings
            else str(action.metavar or action.dest).upper()
            for action in self._actions
        }

    def _argument_error(self, message: str, flags: list[str]) -> NephrosError:
        """Return the error for a message of argparse or jsonargparse: one sentence, with the next step."""
        more = f"See `{self.prog} --help`."
        if match := re.search(r"unrecognized arguments: (\S+)", message):
            return NephrosError(unknown_option_message(match[1].split("=")[0], flags) + f" {more}")
        if match := re.search(r"arguments? are required: (.+)", message):
            names = [self._flags_by_parameter().get(name.strip(" -"), name.strip()) for name in match[1].split(",")]
            return NephrosError(f"`{self.prog}` needs {' and '.join(names)}. {more}")
        if match := re.search(r"argument (\S+): expected", message):
            return NephrosError(f"{match[1]} needs a value. {more}")
        if match := re.search(r"argument (\S+): ignored explicit argument '(.*)'", message):
            return NephrosError(f"{match[1]} takes no value, but {match[2]} was given. {more}")
        return parse_error(message)


def _canonicalize(arg: str, canonical: dict[str, str]) -> str:
    flag, equals, value = arg.partition("=")
    return canonical.get(flag.replace("-", "_"), flag) + equals + value if arg.startswith("--") else arg


def require_tune_extra() -> contextlib.AbstractContextManager[None]:
    """Return the context in which the modules of the extra `tune` are imported."""
    return require_extra("Tuning needs Optuna: pip install 'nephros[tune]'.", "optuna", "sqlalchemy", "fsspec")


def recorded_command(name: str, argv: list[str]) -> str:
    """Return a command as runs and studies record it: without the password of a database, which must not be stored."""
    command = ["nephros", name, *argv]
    for i, argument in enumerate(command):
        option, equals, value = argument.partition("=")
        if command[i - 1] == "--storage":
            command[i] = _without_password(argument)
        elif option == "--storage" and equals:
            command[i] = f"--storage={_without_password(value)}"
    return shlex.join(command)


def _without_password(storage: str) -> str:
    if "://" not in storage:
        return storage
    from nephros.tuning.database import storage_url, url_without_password

    return url_without_password(storage_url(storage))


def index_or_name(value: str | int) -> int | str:
    """Return a number, or the name that a text is; jsonargparse passes the result once more."""
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 10 else text


def parse_numbers(parameter: str, text: str, n: int, expected: str) -> tuple[float, ...]:
    """Parse `n` comma-separated numbers; raise InvalidArgument, which says what was `expected`, for any other text."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != n:
        raise InvalidArgument(parameter, text, expected)
    return numbers


def parse_resplit(text: str) -> list[int]:
    """Return the numbers of images in `text`, such as ``"120000,30000"``; raises InvalidArgument unless they are integers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        expected = "two whole numbers, such as 120000,30000 for train and validation"
        raise InvalidArgument("resplit", text, expected) from None
