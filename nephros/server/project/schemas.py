"""The requests and responses of a project's routes as pydantic models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nephros.annotation.job_commands import METHODS
from nephros.annotation.model import ClassifierStage

MAX_CHANGES = 5000
"""Labels per request."""
MAX_CELLS = 512
"""Cells per request for images or predictions."""
MAX_TEXT = 80
"""Characters of the name of a class, an annotator or a run."""
MAX_CELL_NUMBER = (1 << 32) - 1

CellNumber = Annotated[int, Field(ge=0, le=MAX_CELL_NUMBER)]
ClassId = Annotated[int, Field(ge=0, le=(1 << 15) - 1)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
FinetuneMethod = Literal["head", "last-stage", "network", "self-training", "scratch"]
Color = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$", description="Such as #e69f00.")]


_ALIASED = ConfigDict(serialize_by_alias=True)
"""`class` is a word of Python: the field is called `class_id`."""


class _Strict(BaseModel):
    """A request: a misspelled key would be ignored without a word, and true or "3" is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class LabelChange(_Strict):
    """A label that is set or removed."""

    cell: CellNumber
    class_id: ClassId | None = Field(alias="class", description="Null removes the label.")
    undo: bool = Field(
        False,
        description="Take back the annotator's last change of the cell instead, as if it had not been made; class is null then.",
    )


class LabelsRequest(_Strict):
    """The body of POST /project/labels."""

    annotator: Text
    changes: list[LabelChange] = Field(min_length=1, max_length=MAX_CHANGES)


class LabelsSaved(BaseModel):
    """Labels are on disk."""

    seq: int = Field(description="Number of the last change.")
    revision: int = Field(description="Of the model that was fitted last; a later one follows these labels.")


class NewClass(_Strict):
    """The body of POST /project/classes."""

    name: Text
    color: Color | None = None


class ClassEdit(_Strict):
    """The body of PATCH /project/classes/ID."""

    name: Text | None = None
    color: Color | None = None


class ClassMerge(_Strict):
    """The body of POST /project/classes/ID/merge."""

    into: ClassId


class FinetuneRequest(_Strict):
    """The body of POST /project/finetune."""

    name: Text | None = Field(None, description="Of the run; by default run-1 and so on.")
    methods: list[FinetuneMethod] | None = Field(
        None,
        min_length=1,
        max_length=len(METHODS),
        description="Which to compare, each once; by default all but self-training. The head alone takes seconds.",
    )


class ClassInfo(BaseModel):
    """A class that cells can be labeled with."""

    id: int = Field(description="From 0; never used again.")
    name: str
    color: str
    n_labels: int = Field(description="Cells with this label.")


class ClassList(BaseModel):
    """All classes that are not merged into others."""

    id: int = Field(description="The class that was added or changed.")
    classes: list[ClassInfo]


class AnnotatorInfo(BaseModel):
    """Someone who has labeled cells."""

    name: str
    n_labels: int


class ImageFormat(BaseModel):
    """Size of a cell's image."""

    height: int
    width: int
    channels: int


class ClassRecall(BaseModel):
    """How many labeled cells of a class the head predicts as it, in cross-validation."""

    model_config = _ALIASED

    class_id: int = Field(serialization_alias="class")
    n_labels: int
    recall: float | None
    low: float | None
    high: float | None


class ClassifierState(BaseModel):
    """The classifier that is fitted to the labels."""

    revision: int
    features_done: int
    n_cells: int
    n_labels: int
    state: ClassifierStage
    accuracy: float | None = Field(description="Cross-validated, with its 95% interval.")
    low: float | None
    high: float | None
    gain_of_last_40: float | None
    recalls: list[ClassRecall]
    n_suspicious: int
    error: str = Field(
        description="What keeps the work in the background from going on, such as a full disk; else empty."
    )


class JobInfo(BaseModel):
    """Work in the background."""

    id: str
    kind: str = Field(description='"import", "finetune" or "export".')
    state: str = Field(
        description='"queued", "running", "done", "failed", "canceled" or "interrupted" by the end of the server.'
    )
    progress: float | None = Field(description="From 0 to 1; null where it is unknown.")
    message: str
    run: str | None = Field(description="The run that it makes or exports.")
    format: str | None = Field(description='Of an export: "onnx", "csv" or "geojson".')


class ProjectInfo(BaseModel):
    """The response of GET /project."""

    id: str = Field(
        description="Stays the same; where a request has it in X-Nephros-Project, other projects refuse it."
    )
    name: str
    revision: int
    seq: int
    n_cells: int
    image: ImageFormat
    classes: list[ClassInfo]
    annotators: list[AnnotatorInfo]
    model: ClassifierState
    jobs: list[JobInfo]
    has_stack: bool
    segmenters: list[str] = Field(
        description="What can find the nuclei of a stack without a mask: rough, and those whose packages are installed."
    )
    token: str = Field(description="What each write must carry in X-Nephros-Token; another one after each start.")


class ChangeEvent(BaseModel):
    """The data of an event "change"."""

    revision: int
    seq: int
    labels_revision: int = Field(description="Grows with each change of a label or a class.")
    features_done: int
    n_cells: int
    state: ClassifierStage


class CellState(BaseModel):
    """What is known of a cell: its label, and what the classifier predicts."""

    model_config = _ALIASED

    cell: int
    label: int | None = Field(description="Class of the latest change of anyone; null without a label.")
    labels_by: dict[str, int] = Field(description="Annotator -> class.")
    class_id: int | None = Field(
        serialization_alias="class", description="The most probable class; null before there is a classifier."
    )
    probability: float | None
    prediction_set: list[int] = Field(serialization_alias="set", description="Classes of the prediction set.")
    is_ood: bool | None
    ood_score: float | None
    is_suspicious: bool = Field(description="Whether the label looks wrong.")


class ClassProbability(BaseModel):
    """The probability of a class."""

    model_config = _ALIASED

    class_id: int = Field(serialization_alias="class")
    probability: float


class SimilarProjectCell(BaseModel):
    """A cell of the project with similar features."""

    cell: int
    similarity: float = Field(description="Cosine similarity of the features.")
    label: int | None


class HistoryEntry(BaseModel):
    """A change of a cell's label."""

    model_config = _ALIASED

    annotator: str
    class_id: int | None = Field(
        serialization_alias="class", description="As it was set, before any merge; null where it was removed or undone."
    )
    time: str
    is_undo: bool = Field(description="Whether it takes back the change before it by the same annotator.")


class LocationInfo(BaseModel):
    """Where a cell is in its stack, in voxels."""

    source: str
    id: int = Field(description="Of the nucleus in the mask.")
    z: float
    y: float
    x: float


class CellCard(CellState):
    """A cell with everything that is known of it."""

    ood_reasons: list[str] = Field(description="In which ways it is out of distribution.")
    probabilities: list[ClassProbability]
    similar: list[SimilarProjectCell]
    history: list[HistoryEntry]
    location: LocationInfo | None
    image: str = Field(description="A PNG as a data: URI.")


class NeighborInfo(BaseModel):
    """A cell near another one in the tissue."""

    cell: int
    slice: int = Field(description="Position among the slices that are shown.")
    y: float
    x: float


class TissueView(BaseModel):
    """The slices around a cell."""

    slices: list[str] = Field(description="PNGs as data: URIs.")
    outlines: list[str] = Field(
        description="The cell's outline in each slice as an SVG path in its pixels; empty where it has none."
    )
    z: list[int] = Field(description="Number of each slice in the stack.")
    center: int = Field(description="Position of the cell's own slice among those that are shown.")
    neighbors: list[NeighborInfo]
    voxel_size: list[float] | None = Field(description="Micrometers along z, y and x.")
    height: int
    width: int


class AgreementInfo(BaseModel):
    """How far two annotators agree on the cells that both have labeled."""

    a: str
    b: str
    n_both: int
    kappa: float | None = Field(description="Cohen's; null where it is undefined.")
    n_disagree: int


class CellsAdded(BaseModel):
    """Cells were added."""

    n_added: int
    n_present: int = Field(description="Cells of the upload that the project had already.")
    errors: list[str] = Field(description="Why files were left out.")
    notes: list[str]


class LabelsImported(BaseModel):
    """Labels were imported."""

    n_labels: int = Field(description="Cells whose label was set.")
    n_unchanged: int = Field(description="Cells that had the same label of the same annotator already.")
    n_missing: int = Field(description="Labels of cells that the project doesn't have.")
    new_classes: list[str]
    notes: list[str]


class JobStarted(BaseModel):
    """The work goes on in the background."""

    job: JobInfo


class RunInfo(BaseModel):
    """A fine-tuned run of the project."""

    name: str
    created: str
    accuracy: float | None = Field(description="Cross-validated.")
    method: str
    n_labels: int
