"""What the server answers, as pydantic models: OpenAPI is made from them, and tests hold the answers to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from nephros.server.limits import RequestLimits


def _optional(description: str) -> Any:
    """Return a field that an answer has only where a query parameter asked for it."""
    return Field(default_factory=lambda: None, description=description)


class SaliencyMap(BaseModel):
    """Where in the cell the answer came from."""

    method: str = Field(description="class activation or occlusion.")
    label: int = Field(description="Of the class that the map speaks for.")
    values: list[list[float]] = Field(description="By row, from 0 to 1 where most speaks for the class.")


class SimilarCellInfo(BaseModel):
    """A known cell that the network sees as similar."""

    label: int
    class_name: str
    similarity: float = Field(description="Cosine of the features: 1 is the same.")
    preview: str = Field(description="A PNG as a data: address.")


class PredictionResult(BaseModel):
    """One cell, or what stands in its place. With an error all that the model would say is null."""

    file: str = Field(description="The name that was sent.")
    index: int = Field(description="Page of the file or row of the array, from 0.")
    label: int | None
    class_name: str | None
    probabilities: list[float] | None = Field(description="Calibrated, by label; they sum to 1.")
    prediction_set: list[int] | None = Field(description="Labels; holds the right one as often as coverage asks.")
    is_ood: bool | None = Field(description="Whether the cell is unlike those that the model learnt from.")
    error: str | None = Field(description="One sentence on why there is no answer.")
    split: str = _optional("With details: train, val or test of an npz file's array, else empty.")
    ood_reasons: str = _optional("With details: in which ways the cell is unfamiliar, else empty.")
    notes: list[str] = _optional("With details: what was done to the picture to make it fit.")
    preview: str | None = _optional("With details: the cell as the network sees it, a PNG as a data: address.")
    saliency_map: SaliencyMap | None = _optional(
        "With explain. Null beside an error or past detail_limit, as preview is."
    )
    similar_cells: list[SimilarCellInfo] = _optional(
        "With n_neighbors: the most similar first; empty where the server knows none."
    )


class PredictResponse(BaseModel):
    """The answer of /predict: a result a cell, in the order of the files."""

    version: str
    results: list[PredictionResult]


class StreamedResult(PredictionResult):
    """A line of /predict/batch: a result and its place among all of the upload."""

    row: int = Field(description="From 0, in the order of the files; lines come as they are known.")


class StreamCompleted(BaseModel):
    """The last line of /predict/batch, after which nothing is missing."""

    done: Literal[True]
    version: str
    n_rows: int = Field(description="Lines before this one.")


class StreamAborted(BaseModel):
    """The last line of /predict/batch where the answer broke off."""

    done: Literal[False]
    error: str = Field(description="One plain sentence.")
    n_rows: int = Field(description="Lines before this one.")


class ErrorResponse(BaseModel):
    """Every refusal."""

    error: str = Field(description="One plain sentence.")


class HealthyResponse(BaseModel):
    """The model has answered a blank cell."""

    status: Literal["ok"]


class FailingResponse(BaseModel):
    """The model does not answer."""

    status: Literal["failing"]
    error: str = Field(description="One plain sentence.")


class InputFormat(BaseModel):
    """Form of a picture as the model sees it; others are made to fit."""

    dtype: str
    channels: int
    height: int
    width: int


class ModelInfo(BaseModel):
    """The model that answers."""

    recipe: str
    training_data: str
    test_accuracy: float | None = Field(description="Null where it was not scored on test.")
    test_setup: str | None = Field(description="What was scored on test: the weights and views.")
    weights_sha256: str
    precision: str
    tta_views: int = Field(description="Of each picture that are averaged.")
    detects_ood: bool
    input: InputFormat
    limitations: list[str] = Field(description="Of use, a sentence each.")


class ReferenceCells(BaseModel):
    """The cells that similar ones are found among."""

    n_cells: int
    title: str
    trained_on: bool = Field(description="Whether the model learnt from them.")


class LimitsByRoute(BaseModel):
    """By route."""

    predict: RequestLimits
    batch: RequestLimits


class VersionResponse(BaseModel):
    """The answer of /version."""

    version: str
    model: ModelInfo
    class_names: list[str]
    reference_cells: ReferenceCells | None = Field(description="Null where the server knows no cells.")
    limits: LimitsByRoute
