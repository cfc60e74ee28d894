"""The routes of a project's cells: their order, images, predictions, and one cell with everything that is known of it."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from nephros.annotation.filters import Filters
from nephros.server.error_responses import json_list_response, json_response, reject_repeated_parameters
from nephros.server.limits import RequestRejected
from nephros.server.project import openapi_texts as texts
from nephros.server.project.cell_views import cell_card, cell_states, heatmap_png, tissue_view
from nephros.server.project.schemas import (
    MAX_CELL_NUMBER,
    MAX_CELLS,
    MAX_TEXT,
    AgreementInfo,
    CellCard,
    CellState,
    TissueView,
)
from nephros.server.project.session import ProjectSession
from nephros.server.streaming import binary_response, reserve_memory

Sort = Literal["uncertainty", "ood", "similarity", "position", "probability", "suspicious", "recent"]
FLAGS = ("unsure", "ood", "unlabeled", "mine", "disagrees")
"""Filters without a value."""
CellList = Annotated[
    str,
    Query(
        max_length=MAX_CELLS * 11,
        description=f"Numbers of up to {MAX_CELLS} cells with commas between them, such as 0,5,17; none twice.",
    ),
]
CellPath = Annotated[int, PathParameter(ge=0, le=MAX_CELL_NUMBER, description="Number of a cell, from 0.")]


class OrderParams(BaseModel):
    """Query parameters of /project/order."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    sort: Sort = Field("position", description="What the order follows.")
    class_id: int | None = Field(None, alias="class", ge=0, le=(1 << 15) - 1, description="Class of sort=probability.")
    to: int | None = Field(None, ge=0, le=MAX_CELL_NUMBER, description="With sort=similarity: to which cell.")
    descending: bool = Field(False, description="The other way around.")
    filter: list[str] = Field(
        default_factory=list,
        max_length=8,
        description="Only these cells: unsure, ood, unlabeled, mine, disagrees, or class:3; several narrow each other.",
    )
    annotator: str | None = Field(None, min_length=1, max_length=MAX_TEXT, description="With filter=mine: who.")


def add_cell_routes(router: APIRouter, session: ProjectSession) -> None:
    """Add /project/order, /project/images, /project/cells, and what belongs to a single cell."""

    @router.get(
        "/order",
        responses=texts.binary_responses(
            "Cells as little-endian uint32; X-Total says how many, X-Revision which model."
        ),
        response_class=Response,
    )
    async def order(request: Request, params: Annotated[OrderParams, Query()]) -> Response:
        """List the cells that pass all filters, in the order of a sort."""
        reject_repeated_parameters(request, but="filter")
        filters = parse_filters(params.filter, params.annotator)
        if params.to is not None:
            session.check_cells([params.to])
        with ExitStack() as scope:
            scope.enter_context(reserve_memory(session.budget, 4 * session.project.n_cells))
            revision = (await session.read(session.model.status)).revision
            cells = await session.read(
                session.model.order,
                params.sort,
                filters,
                class_id=params.class_id,
                to=params.to,
                descending=params.descending,
            )
            headers = {"x-revision": str(revision), "x-total": str(len(cells))}
            return binary_response(np.ascontiguousarray(cells, "<u4").tobytes(), scope.pop_all(), headers)

    @router.get(
        "/images",
        responses=texts.binary_responses("uint8 images of the size of GET /project, one after another."),
        response_class=Response,
    )
    async def images(request: Request, cells: CellList) -> Response:
        """Send the images of cells, in the order of the parameter."""
        reject_repeated_parameters(request)
        numbers = parse_cells(cells)
        session.check_cells(numbers)
        with ExitStack() as scope:
            scope.enter_context(
                reserve_memory(session.budget, len(numbers) * int(np.prod(session.project.image_shape)))
            )
            pixels = await session.read(session.project.images, numbers)
            return binary_response(np.ascontiguousarray(pixels).data.cast("B"), scope.pop_all())

    @router.get("/cells", responses=texts.list_responses(CellState))
    async def cells(request: Request, cells: CellList) -> Response:
        """Describe cells: label, labels by annotator, and prediction."""
        reject_repeated_parameters(request)
        numbers = parse_cells(cells)
        session.check_cells(numbers)
        return json_list_response(await session.read(cell_states, session, numbers))

    @router.get("/cells/{cell}", responses=texts.responses(CellCard))
    async def cell(cell: CellPath) -> Response:
        """Describe a cell with its image, probabilities, similar cells, history and location."""
        session.check_cells([cell])
        return json_response(await session.read(cell_card, session, cell))

    @router.get(
        "/cells/{cell}/heatmap",
        responses=texts.binary_responses("The cell, and where in it the evidence for its class lies.", "image/png"),
        response_class=Response,
    )
    async def heatmap(cell: CellPath) -> Response:
        """Draw a heat map of the evidence for the predicted class over a cell."""
        session.check_cells([cell])
        return Response(await session.read(heatmap_png, session, cell), media_type="image/png")

    @router.get("/cells/{cell}/tissue", responses=texts.responses(TissueView))
    async def tissue(cell: CellPath) -> Response:
        """Show a nucleus in its tissue: the slices around it, its outline in each, and its neighbors."""
        session.check_cells([cell])
        return json_response(await session.read(tissue_view, session, cell))

    @router.get(
        "/suspicious",
        responses=texts.binary_responses("Cells as little-endian uint32, the most suspicious label first."),
        response_class=Response,
    )
    async def suspicious() -> Response:
        """List the cells whose label looks wrong, by their out-of-fold probability."""
        numbers = await session.read(session.model.suspicious)
        return binary_response(np.ascontiguousarray(numbers, "<u4").tobytes(), ExitStack())

    @router.get("/agreement", responses=texts.list_responses(AgreementInfo))
    async def agreement() -> Response:
        """Compare every two annotators on the cells that both have labeled."""
        pairs = await session.read(session.model.agreement)
        return json_list_response(
            [
                AgreementInfo(a=pair.a, b=pair.b, n_both=pair.n_both, kappa=pair.kappa, n_disagree=pair.n_disagree)
                for pair in pairs
            ]
        )


def parse_cells(text: str) -> list[int]:
    """Return the numbers in a query parameter; RequestRejected if they are none, too many, or repeated."""
    if not re.fullmatch("[0-9]{1,10}(,[0-9]{1,10})*", text):
        raise RequestRejected(
            422, "The query parameter cells must be numbers with commas between them, such as 0,5,17."
        )
    numbers = [int(part) for part in text.split(",")]
    if len(numbers) > MAX_CELLS:
        raise RequestRejected(
            422, f"The query parameter cells has {len(numbers):,} numbers: at most {MAX_CELLS} at once."
        )
    if len(set(numbers)) < len(numbers):
        raise RequestRejected(422, "The query parameter cells names a cell twice: name each once.")
    return numbers


def parse_filters(texts_of_filters: list[str], annotator: str | None) -> Filters:
    """Return filters from the query parameters; RequestRejected for one that doesn't exist."""
    flags, class_id = set(), None
    for text in texts_of_filters:
        if match := re.fullmatch("class:([0-9]{1,5})", text):
            class_id = int(match[1])
        elif text in FLAGS:
            flags.add(text)
        else:
            raise RequestRejected(422, f"A filter must be {', '.join(FLAGS)} or class:ID, such as class:3.")
    if "mine" in flags and annotator is None:
        raise RequestRejected(422, "filter=mine needs the query parameter annotator.")
    return Filters(class_id=class_id, annotator=annotator, **dict.fromkeys(flags, True))
