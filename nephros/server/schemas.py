"""The API's requests and responses as pydantic models: routes validate and send them, and OpenAPI is generated from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nephros.data.images.color import plane_number
from nephros.server.limits import RequestLimits

NO_LIMIT = 1 << 53
"""Larger than any number of rows, and still exact as a JavaScript number."""
NO_PLANE = 1 << 16
"""A plane that no image has: a TIFF file counts its samples per pixel in two bytes."""


def _optional(description: str) -> Any:
    """Return a field that a response has only if a query parameter asks for it."""
    return Field(default_factory=lambda: None, description=description)


def index_or_name(text: str | None) -> int | str | None:
    """Return a parameter that takes numbers and names as a number, where it is one."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else text


class ResultParams(BaseModel):
    """Query parameters of all routes that predict."""

    model_config = ConfigDict(extra="forbid")  # a misspelled one would be ignored without a word

    coverage: float = Field(0.9, gt=0, le=1, description="Share of prediction sets that contain the true class.")
    white_level: float | None = Field(
        None,
        gt=0,
        le=2**31,
        description="Value that becomes 255 in images of more than 8 bits; by default the training images', or, of a model that "
        "was trained on 8 bits, the brightest pixel of the request.",
    )
    model: str | None = Field(
        None, min_length=1, max_length=200, description="Name of the model, as /models lists it; by default the first."
    )
    details: bool = Field(
        False, description="Add split, ood_reasons, notes and, without pixels, preview (a PNG as a data: URI)."
    )
    explain: bool = Field(False, description="Add saliency_map: rows of values from 0 to 1, and the method.")
    pixels: bool = Field(False, description="Add pixels, the cell as the model sees it.")
    n_neighbors: int = Field(
        0, ge=0, le=20, description="Add this many similar_cells, if the server has reference cells."
    )
    detail_limit: int = Field(
        NO_LIMIT,
        ge=0,
        description="Add previews, pixels, saliency maps and similar cells to this many rows, the first ones.",
    )

    @property
    def adds_visuals(self) -> bool:
        """Whether rows have previews, saliency maps or similar cells, which take longer than the rest of them."""
        return self.details or self.explain or self.n_neighbors > 0


class PredictParams(ResultParams):
    """Query parameters of /predict."""

    channel: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Plane of color images, or channel, that shows the nuclei: its number, from 0, or red, green or blue.",
    )

    @property
    def plane(self) -> int | None:
        """The number of `channel`; NO_PLANE, an error for each image of several planes, for names that only stacks can have."""
        plane = plane_number(index_or_name(self.channel))
        return NO_PLANE if plane is None and self.channel is not None else plane

    @property
    def row_range(self) -> range:
        """Rows to predict."""
        return range(NO_LIMIT)


class StreamParams(PredictParams):
    """Query parameters of /predict/batch."""

    offset: int = Field(0, ge=0, description="First row to predict, from 0.")
    limit: int = Field(NO_LIMIT, ge=1, description="Predict at most this many rows.")

    @property
    def row_range(self) -> range:
        """Rows to predict."""
        return range(self.offset, self.offset + self.limit)


class SaliencyMap(BaseModel):
    """Which parts of a cell are evidence for the predicted class."""

    method: str = Field(description='"class activation" or "occlusion".')
    label: int = Field(description="The class that the map explains.")
    values: list[list[float]] = Field(description="Rows of values from 0 to 1, the strongest evidence.")


class SimilarCellInfo(BaseModel):
    """A reference cell with similar features."""

    label: int = Field(description="Number of its class.")
    class_name: str = Field(description="Name of its class.")
    similarity: float = Field(description="Cosine similarity of the features: 1 is identical.")
    preview: str = Field(description="A PNG as a data: URI.")


class PredictionResult(BaseModel):
    """The prediction for one cell, or the error of a cell or file; with an error, all fields of the prediction are null."""

    file: str = Field(description="Name of the uploaded file.")
    index: int = Field(description="Page of the file or row of the array, from 0.")
    label: int | None = Field(description="Number of the most probable class.")
    class_name: str | None = Field(description="Name of the most probable class.")
    probabilities: list[float] | None = Field(description="Calibrated, one per class; they sum to 1.")
    prediction_set: list[int] | None = Field(
        description="Labels of the classes that contain the true one as often as coverage says."
    )
    is_ood: bool | None = Field(description="Whether the cell is out of distribution, unlike the training cells.")
    error: str | None = Field(description="Why there is no prediction, in one sentence.")
    split: str = _optional("With details: train, val or test for an array of that split in an npz file, else empty.")
    ood_reasons: list[str] = _optional("With details: why the cell is out of distribution; empty if it is not.")
    notes: list[str] = _optional("With details: conversions that made the image fit the model's input.")
    preview: str | None = _optional(
        "With details: the cell as the model sees it, a PNG as a data: URI; null with pixels."
    )
    pixels: str | None = _optional(
        "With pixels: the cell as the model sees it, bytes in rows from the top in base64, three per pixel of a color image."
    )
    saliency_map: SaliencyMap | None = _optional(
        "With explain; null with an error or beyond detail_limit, like preview."
    )
    similar_cells: list[SimilarCellInfo] = _optional(
        "With n_neighbors: the most similar cell first; empty if the server has no reference cells."
    )


class PredictResponse(BaseModel):
    """The response of /predict: one result per cell, in the order of the files."""

    version: str
    results: list[PredictionResult]


class StreamedResult(PredictionResult):
    """A line of /predict/batch: a result and its position in the upload."""

    row: int = Field(description="From 0, in the order of the files; lines arrive in order of completion.")


class StreamCompleted(BaseModel):
    """The last line of /predict/batch when all rows have been sent."""

    done: Literal[True]
    version: str
    n_rows: int = Field(description="Lines before this one.")


class StreamAborted(BaseModel):
    """The last line of /predict/batch when the response ends early."""

    done: Literal[False]
    error: str = Field(description="The reason, in one sentence.")
    n_rows: int = Field(description="Lines before this one.")


class ErrorResponse(BaseModel):
    """The body of every response with status 400 or above, except that of /health."""

    error: str = Field(description="What is wrong, in one sentence.")


class HealthyResponse(BaseModel):
    """The model has classified a blank cell."""

    status: Literal["ok"]


class FailingResponse(BaseModel):
    """The model does not respond."""

    status: Literal["failing"]
    error: str = Field(description="The reason, in one sentence.")


class InputFormat(BaseModel):
    """Cells as the model sees them; images of other formats are converted."""

    dtype: str
    channels: int
    height: int
    width: int
    white_level: float | None = Field(
        description="Value that became 255 in training images of more than 8 bits, and does by default; null if they had 8."
    )


class CrossValidation(BaseModel):
    """How a fine-tuned model did on its training images, each predicted by a model that did not see it."""

    n: int = Field(description="Number of images.")
    accuracy: float


class ModelInfo(BaseModel):
    """The model that the server runs."""

    recipe: str
    training_data: str
    training_subset: str = Field(
        description="Number of training images, if the model was trained on a subset; else empty."
    )
    test_accuracy: float | None = Field(description="Null if the model was not evaluated on test.")
    test_setup: str | None = Field(
        description="What was evaluated on test: precision of the weights, and views per image."
    )
    cross_validation: CrossValidation | None = Field(description="Null unless the model was fine-tuned.")
    weights_sha256: str
    precision: str
    tta_views: int = Field(description="Views per image whose probabilities are averaged.")
    detects_ood: bool
    input: InputFormat
    limitations: list[str] = Field(description="Limitations of use, in one sentence each.")


class ReferenceCells(BaseModel):
    """The cells among which similar ones are found."""

    n_cells: int
    title: str
    trained_on: bool = Field(description="Whether the model was trained on these cells.")


class LimitsByRoute(BaseModel):
    """Request limits of each route."""

    predict: RequestLimits
    batch: RequestLimits
    stack: RequestLimits


class VersionResponse(BaseModel):
    """The response of /version."""

    version: str
    model: ModelInfo
    class_names: list[str]
    reference_cells: ReferenceCells | None = Field(description="Null if the server has none.")
    limits: LimitsByRoute
    segmenters: list[str] = Field(
        description="What can find the nuclei of a stack without a mask: rough, and those whose packages are installed."
    )


class ModelChoiceInfo(BaseModel):
    """A model that requests may name."""

    name: str
    title: str = Field(description="The data that it was trained on.")
    class_names: list[str]
    test_accuracy: float | None = Field(description="Null if the model was not evaluated on test.")
    model: ModelInfo
    default: bool = Field(description="Whether it predicts where no model is named.")


class SampleInfo(BaseModel):
    """A sample cell that the page offers; its PNG file is at /samples/NAME."""

    name: str
    preview: str = Field(description="The cell scaled for display, a PNG as a data: URI.")
    synthetic: bool
    true_class: str = Field(description="Empty for a synthetic cell.")
    source: str
