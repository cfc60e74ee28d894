"""What the server answers, as pydantic models: OpenAPI is made from them, and tests hold the answers to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from nephros.server.limits import Limits


def _asked(words: str) -> Any:
    """Return a field that an answer has only where a query parameter asked for it."""
    return Field(default_factory=lambda: None, description=words)


class HeatMap(BaseModel):
    """Where in the cell the answer came from."""

    method: str = Field(description="class activation or occlusion.")
    label: int = Field(description="Of the class that the map speaks for.")
    values: list[list[float]] = Field(description="By row, from 0 to 1 where most speaks for the class.")


class KnownCell(BaseModel):
    """A known cell that the network sees as similar."""

    label: int
    class_name: str
    similarity: float = Field(description="Cosine of the features: 1 is the same.")
    picture: str = Field(description="A PNG as a data: address.")


class Result(BaseModel):
    """One cell, or what stands in its place. With an error all that the model would say is null."""

    file: str = Field(description="The name that was sent.")
    index: int = Field(description="Page of the file or row of the array, from 0.")
    label: int | None
    class_name: str | None
    probabilities: list[float] | None = Field(description="Calibrated, by label; they sum to 1.")
    prediction_set: list[int] | None = Field(description="Labels; holds the right one as often as coverage asks.")
    unfamiliar: bool | None = Field(description="Whether the cell is unlike those that the model learnt from.")
    error: str | None = Field(description="One sentence on why there is no answer.")
    split: str = _asked("With details: train, val or test of an npz file's array, else empty.")
    reason: str = _asked("With details: in which ways the cell is unfamiliar, else empty.")
    notes: list[str] = _asked("With details: what was done to the picture to make it fit.")
    picture: str | None = _asked("With details: the cell as the network sees it, a PNG as a data: address.")
    heat_map: HeatMap | None = _asked("With explain. Null beside an error or past first, as picture is.")
    similar: list[KnownCell] = _asked("With similar: the most similar first; empty where the server knows none.")


class Answer(BaseModel):
    """The answer of /predict: a result a cell, in the order of the files."""

    version: str
    results: list[Result]


class Line(Result):
    """A line of /predict/batch: a result and its place among all of the upload."""

    row: int = Field(description="From 0, in the order of the files; lines come as they are known.")


class Done(BaseModel):
    """The last line of /predict/batch, after which nothing is missing."""

    done: Literal[True]
    version: str
    rows: int = Field(description="Lines before this one.")


class BrokenOff(BaseModel):
    """The last line of /predict/batch where the answer broke off."""

    done: Literal[False]
    error: str = Field(description="One plain sentence.")
    rows: int = Field(description="Lines before this one.")


class Trouble(BaseModel):
    """Every refusal."""

    error: str = Field(description="One plain sentence.")


class Healthy(BaseModel):
    """The model has answered a blank cell."""

    status: Literal["ok"]


class Failing(BaseModel):
    """The model does not answer."""

    status: Literal["failing"]
    error: str = Field(description="One plain sentence.")


class Input(BaseModel):
    """Form of a picture as the model sees it; others are made to fit."""

    dtype: str
    channels: int
    height: int
    width: int


class ModelFacts(BaseModel):
    """The model that answers."""

    recipe: str
    data: str
    test_accuracy: float | None = Field(description="Null where it was not scored on test.")
    test_of: str | None = Field(description="What was scored on test: the weights and views.")
    weights_sha256: str
    precision: str
    views: int = Field(description="Of each picture that are averaged.")
    finds_unfamiliar: bool
    input: Input
    limits: list[str] = Field(description="Of use, a sentence each.")


class Known(BaseModel):
    """The cells that similar ones are found among."""

    cells: int
    title: str
    trained_on: bool = Field(description="Whether the model learnt from them.")


class AllLimits(BaseModel):
    """By route."""

    predict: Limits
    batch: Limits


class Version(BaseModel):
    """The answer of /version."""

    version: str
    model: ModelFacts
    class_names: list[str]
    known: Known | None = Field(description="Null where the server knows no cells.")
    limits: AllLimits
