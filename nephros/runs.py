"""The run folder: where its files are, and run.json, which describes the run.

    recipe.yaml  run.json  history.csv  checkpoint.pt  weights.safetensors  report.html
    classical baselines: search_results.csv     distilled runs: soft_targets.npz
    fine-tuned runs: cross_validation.npz, suspicious_labels.csv
    train/metrics.json     val/, test/ and test/one-view/: metrics.json, predictions.npz     test/reads.jsonl     figures/

The files of a run on synthetic cells have the prefix ``synthetic-``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

from nephros.data.class_names import class_name_fault
from nephros.data.images.input_conversion import InputConversion
from nephros.data.load import DataRequest
from nephros.data.provenance import ProvenanceRecord, describe_training_subset
from nephros.data.split import SPLITS
from nephros.errors import FileError, InvalidArgument, LockedError
from nephros.files import file_lock, remove_temporary_files, write_json
from nephros.reading import MAX_JSON_BYTES, MalformedContent, decode, file_errors, parse_json, read_bytes, read_text
from nephros.recipe import TTA_VIEW_COUNTS, Recipe

RUN_FORMAT = "nephros-run-2"
"""Format of run.json; other formats can't be read."""
_SYNTHETIC_PREFIX = "synthetic-"


class TeacherRecord(TypedDict):
    """A run that another run was distilled from."""

    run: str
    """Its folder, as an absolute path."""
    recipe: str
    recipe_hash: str
    weights_sha256: str


class InitRecord(TypedDict):
    """The weights that a run started from."""

    source: str
    """Name of the bundled model, or the absolute path of a run folder or file."""
    recipe: str
    """Recipe that trained them; empty where the file doesn't name one."""
    sha256: str
    """Digest of the file that holds them."""
    head: str
    """``kept`` with the same classes, ``new`` with others, ``fitted`` where fine-tuning set it."""


class MethodRecord(TypedDict):
    """A method in cross-validation over the train split."""

    method: str
    accuracy: float
    accuracy_low: float
    """95% interval, by the `interval_method` of the comparison."""
    accuracy_high: float
    macro_f1: float
    loss: float
    seconds: float
    detail: str


class CurvePointRecord(TypedDict):
    """A number of labels, and the accuracy in cross-validation with so many."""

    labels: int
    accuracy: float


class FinetuningRecord(TypedDict):
    """The methods that fine-tuning compared, and the one that it kept."""

    method: str
    folds: int
    by_group: bool
    interval_method: NotRequired[str]
    """Of the accuracies; absent in runs of earlier versions, whose intervals are Wilson's, as if all images were independent."""
    methods: list[MethodRecord]
    learning_curve: NotRequired[list[CurvePointRecord]]
    """Of the head alone; absent in runs of earlier versions."""


def describe_init(record: InitRecord) -> str:
    """Return such as ``nephros-distilled (weights 0123456789abcdef), with a new last layer for other classes``."""
    recipe = f"{record['recipe']}, " if record["recipe"] not in ("", record["source"]) else ""
    layers = {"new": ", with a new last layer for other classes", "fitted": ", with a last layer fitted to the labels"}
    layer = layers.get(record["head"], "")
    return f"{record['source']} ({recipe}weights {record['sha256'][:16]}){layer}"


def describe_finetuning(record: FinetuningRecord) -> str:
    """Return the kept method and the accuracy of all, such as ``head, after 5-fold cross-validation (accuracy: head 0.810)``."""
    accuracies = ", ".join(f"{row['method']} {row['accuracy']:.3f}" for row in record["methods"])
    return f"{record['method']}, after {describe_folds(record)} (accuracy: {accuracies})"


def describe_folds(record: FinetuningRecord) -> str:
    """Return such as ``5-fold cross-validation by group``."""
    return f"{record['folds']}-fold cross-validation{' by group' if record['by_group'] else ''}"


class InputSpecRecord(TypedDict):
    """`nephros.models.classifier.InputSpec` of the run's network."""

    channels: int
    height: int
    width: int
    n_classes: int
    depth: NotRequired[int]
    """Slices of volumes; absent for images."""


@dataclass(frozen=True)
class RunInfo:
    """run.json: how a run was started and how far it has got."""

    recipe: str
    recipe_hash: str
    seed: int
    command: str
    """The command that repeats the run; empty for a call from Python."""
    device: str
    """Device of each process, with its threads and, if reduced, its precision."""
    threads: int
    """Torch threads per process."""
    data: ProvenanceRecord
    data_request: DataRequest
    class_names: list[str]
    input_spec: InputSpecRecord
    class_counts: dict[str, list[int]]
    """Images per class in train, val and test."""
    normalization: dict[str, list[float]]
    """mean and std of each channel, of pixels / 255."""
    parameters: int
    multiply_adds: int
    """Per forward pass of one image."""
    test: bool
    """Whether the run evaluates the test split at its end."""
    created: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    commit: str | None
    device_type: str = "cpu"
    """cpu or cuda."""
    processes: int = 1
    """Processes that train together, each on its share of every batch."""
    replicas: int = 1
    """Replicas of the network in a process, each on its part of every batch."""
    status: str = "training"
    """training, complete or diverged."""
    chosen_epoch: int | None = None
    """Epoch (from 1) of the weights that were kept."""
    hyperparameters: str = ""
    """Best hyperparameters of a classical baseline, by validation; empty for a network."""
    training_minutes: float | None = None
    """Minutes in training epochs, without start-up and validation; of a classical baseline, in its hyperparameter search."""
    tta_views: int = 1
    """Views of each image at test time, whose predictions are averaged."""
    teachers: list[TeacherRecord] = field(default_factory=list)
    """Runs that it was distilled from."""
    init: InitRecord | None = None
    """Weights that it started from; None for random ones."""
    freeze: list[str] = field(default_factory=list)
    """Stages of the network that kept those weights."""
    finetuning: FinetuningRecord | None = None
    """How `nephros.finetune` chose the method; None for a run of `nephros.train`."""
    input_conversion: dict[str, Any] = field(default_factory=lambda: {"resize": "stretch"})
    """InputConversion.to_dict() of the data; runs of earlier versions stretched a folder's images."""
    warnings: list[str] = field(default_factory=list)
    weights_sha256: str = ""
    """SHA-256 of weights.safetensors; empty before there is one, and in runs from before it was stored."""
    format: str = RUN_FORMAT

    @property
    def training_subset(self) -> str:
        """Such as ``subset: 1,000 of 165,466 training images``; empty for a run on all training images."""
        return describe_training_subset(sum(self.class_counts["train"]), self.data)


@dataclass(frozen=True)
class TestRead:
    """One read of the test split, from test/reads.jsonl; "unknown" stands for what a damaged line does not say."""

    time: str = "unknown (damaged entry)"
    """UTC, ISO 8601."""
    commit: str | None = None
    recipe_hash: str = "unknown"
    data: str = "unknown"
    """Title of the data."""
    sha256: str = "unknown"


class RunFolder:
    """A folder that holds one run."""

    def __init__(self, root: Path, synthetic: bool) -> None:
        self.root, self.synthetic = root, synthetic

    def __repr__(self) -> str:
        return f"{type(self).__name__}.open({str(self.root)!r})"

    @classmethod
    def create(cls, root: Path, synthetic: bool) -> Self:
        """Create a run folder at `root`; InvalidArgument when there is something already."""
        root = root.expanduser()
        # A process killed before it wrote run.json left nothing worth keeping.
        removable = {f"{prefix}{name}" for prefix in ("", _SYNTHETIC_PREFIX) for name in (".lock", "recipe.yaml")}
        removable |= {path.name for path in root.glob(".*.tmp")}
        if root.exists() and (not root.is_dir() or {path.name for path in root.iterdir()} - removable):
            hint = f"Continue the run there with `nephros.resume('{root}')`." if cls.exists(root) else ""
            raise InvalidArgument("out", root, "a new folder", hint=hint)
        root.mkdir(parents=True, exist_ok=True)
        return cls(root, synthetic)

    @classmethod
    def exists(cls, root: Path) -> bool:
        """Return whether `root` holds a run, finished or not."""
        return any(cls(root.expanduser(), synthetic).file("run.json").is_file() for synthetic in (False, True))

    @classmethod
    def open(cls, root: Path | str) -> Self:
        """Open an existing run; FileError when `root` does not hold one."""
        root = Path(root).expanduser()
        for synthetic in (False, True):
            folder = cls(root, synthetic)
            if folder.file("run.json").is_file():
                return folder
        problem = "holds no run (it has no run.json)" if root.is_dir() else "does not exist"
        raise FileError(root, f"The run folder {root} {problem}: choose a folder written by `nephros.train(RECIPE)`.")

    def file(self, *parts: str) -> Path:
        """Return the path of one of the run's files, such as ``file("val", "metrics.json")``."""
        *folders, name = parts
        return self.root.joinpath(*folders, f"{_SYNTHETIC_PREFIX if self.synthetic else ''}{name}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run's lock, and remove temporary files of killed processes; LockedError when another process holds it."""
        try:
            with file_lock(self.file(".lock"), wait=False):
                remove_temporary_files(self.root)
                yield
        except BlockingIOError:
            raise LockedError(f"Another process is training in {self.root}: wait for it or stop it first.") from None

    def write_info(self, info: RunInfo) -> None:
        """Replace run.json."""
        write_json(self.file("run.json"), asdict(info))

    def info(self) -> RunInfo:
        """Read run.json; FileError when it is damaged, contradicts itself, or is of another format."""
        path = self.file("run.json")
        with file_errors(path, "train again with another `out`"):
            values = parse_json(read_text(path, MAX_JSON_BYTES))
            if not isinstance(values, dict) or values.get("format") != RUN_FORMAT:
                raise MalformedContent(f"its format is not {RUN_FORMAT}, which this version reads")
            info = decode(RunInfo, values)
            device = info.device.replace("CPU, 1 threads", "CPU, 1 thread")  # as once written
            return _checked(replace(info, device=device))

    def recipe(self) -> Recipe:
        """Read recipe.yaml; FileError when it is damaged, or is not the recipe that run.json names by its digest."""
        from nephros.recipe_io import read_recipe

        path, recipe_hash = self.file("recipe.yaml"), self.info().recipe_hash
        recipe = read_recipe(path)
        text = path.read_bytes().replace(b"\r\n", b"\n")  # as on Windows, or after an editor
        if hashlib.sha256(text).hexdigest()[: len(recipe_hash)] != recipe_hash:
            raise FileError(
                path,
                f"{path} has changed since the run started (run.json has the digest of another recipe): restore it, or train "
                "again with a new `out`.",
            )
        return recipe

    def test_reads(self) -> list[TestRead]:
        """Return every read of the test split so far, in order."""
        log = self.file("test", "reads.jsonl")
        if not log.is_file():
            return []
        with file_errors(log, "restore it: it counts how often the test split was read"):
            return [_parse_test_read(line) for line in read_bytes(log, MAX_JSON_BYTES).splitlines() if line.strip()]


def _checked(info: RunInfo) -> RunInfo:
    """Return the description of a run; MalformedContent if its parts contradict one another."""
    InputConversion.from_dict(asdict(decode(InputConversion, info.input_conversion, "input_conversion")))
    if unknown := sorted(set(info.data_request) - set(DataRequest.__annotations__)):
        raise MalformedContent(f"'data_request.{unknown[0]}' is unknown to this version of nephros")
    if fault := class_name_fault(info.class_names):
        raise MalformedContent(fault)
    n_classes, spec, counts = len(info.class_names), info.input_spec, info.class_counts
    for is_valid, clause in (
        (info.status in ("training", "complete", "diverged"), "'status' is neither training, complete nor diverged"),
        (n_classes >= 1, "'class_names' is empty"),
        (spec["n_classes"] == n_classes, f"'input_spec' is of {spec['n_classes']} classes, but {n_classes} have names"),
        (
            spec["channels"] in (1, 3) and min(spec["height"], spec["width"], spec.get("depth", 1)) >= 1,
            "'input_spec' is of no image",
        ),
        (set(counts) == set(SPLITS), "'class_counts' is not of train, val and test"),
        (
            all(len(row) == n_classes and min(row) >= 0 for row in counts.values()),
            "'class_counts' is not of these classes",
        ),
        (info.tta_views in TTA_VIEW_COUNTS, "'tta_views' is not 1, 5, 8 or 40"),
        (min(info.threads, info.processes, info.replicas) >= 1, "'threads', 'processes' or 'replicas' is below 1"),
        (min(info.parameters, info.multiply_adds) >= 0, "'parameters' or 'multiply_adds' is below 0"),
        (info.chosen_epoch is None or info.chosen_epoch >= 1, "'chosen_epoch' is below 1"),
        (info.training_minutes is None or info.training_minutes >= 0, "'training_minutes' is below 0"),
        (
            info.finetuning is None
            or info.finetuning["method"] in (row["method"] for row in info.finetuning["methods"]),
            "'finetuning' keeps a method that it did not compare",
        ),
    ):
        if not is_valid:
            raise MalformedContent(clause)
    return info


def _parse_test_read(line: bytes) -> TestRead:
    """Return a line's entry; a line that a killed process left incomplete still counts as a read."""
    try:
        return decode(TestRead, parse_json(line))
    except (ValueError, RecursionError):
        return TestRead()
