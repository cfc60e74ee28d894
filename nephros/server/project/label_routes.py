"""The routes of a project's labels and classes, and the project itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from nephros.annotation.classes import LabelClass
from nephros.errors import InvalidArgument
from nephros.microscopy.stack import installed_segmenters
from nephros.server.error_responses import json_response
from nephros.server.json_requests import read_json
from nephros.server.project import openapi_texts as texts
from nephros.server.project.schemas import (
    AnnotatorInfo,
    ClassEdit,
    ClassifierState,
    ClassInfo,
    ClassList,
    ClassMerge,
    ClassRecall,
    ImageFormat,
    LabelsRequest,
    LabelsSaved,
    NewClass,
    ProjectInfo,
)
from nephros.server.project.session import ProjectSession

PathClassId = Annotated[int, Path(ge=0, le=(1 << 15) - 1, description="Id of a class.")]


def add_label_routes(router: APIRouter, session: ProjectSession) -> None:
    """Add /project, /project/labels and /project/classes."""

    @router.get("", responses=texts.responses(ProjectInfo))
    async def get_project() -> Response:
        """Describe the project: cells, classes, annotators, the state of its classifier, jobs, and the token of writes."""
        return json_response(await session.read(_project_info, session))

    @router.post("/labels", responses=texts.write_responses(LabelsSaved), openapi_extra=texts.json_body(LabelsRequest))
    async def save_labels(request: Request) -> Response:
        """Set, remove or undo labels, all or none. The response is sent when they are on disk, where no crash loses them."""
        body = await read_json(request, LabelsRequest)
        if len({change.cell for change in body.changes}) < len(body.changes):
            raise InvalidArgument("changes", "repeated cells", "one change per cell")
        if any(change.undo and change.class_id is not None for change in body.changes):
            raise InvalidArgument("class", "a class beside undo", "null there")
        changes = [(change.cell, change.class_id) for change in body.changes if not change.undo]
        undo = [change.cell for change in body.changes if change.undo]
        seq = await session.write(session.project.labels.apply, changes, body.annotator, undo=undo)
        session.n_labels_saved += len(body.changes)
        session.model.wake()
        session.events.publish_change()
        return json_response(LabelsSaved(seq=seq, revision=session.model.state.revision))

    @router.post("/classes", responses=texts.write_responses(ClassList), openapi_extra=texts.json_body(NewClass))
    async def add_class(request: Request) -> Response:
        """Add a class; without a color it gets the next one of a palette that color-blind people can tell apart."""
        body = await read_json(request, NewClass)
        added = await session.write(session.project.labels.add_class, body.name, body.color)
        return await _class_list(session, added.id)

    @router.patch(
        "/classes/{class_id}", responses=texts.write_responses(ClassList), openapi_extra=texts.json_body(ClassEdit)
    )
    async def edit_class(request: Request, class_id: PathClassId) -> Response:
        """Give a class another name, another color, or both."""
        body = await read_json(request, ClassEdit)
        await session.write(_edit_class, session, class_id, body)
        return await _class_list(session, class_id)

    @router.post(
        "/classes/{class_id}/merge",
        responses=texts.write_responses(ClassList),
        openapi_extra=texts.json_body(ClassMerge),
    )
    async def merge_class(request: Request, class_id: PathClassId) -> Response:
        """Make all labels of a class labels of another one; every change stays in the history."""
        body = await read_json(request, ClassMerge)
        await session.write(session.project.labels.merge, class_id, body.into)
        return await _class_list(session, body.into)


async def _class_list(session: ProjectSession, class_id: int) -> Response:
    session.model.wake()
    session.events.publish_change()
    classes = await session.read(session.project.labels.classes)
    return json_response(ClassList(id=class_id, classes=_class_infos(classes)))


def _edit_class(session: ProjectSession, class_id: int, body: ClassEdit) -> None:
    labels = session.project.labels
    edits: list[tuple[Callable[[int, str], Any], str | None]] = [
        (labels.rename, body.name),
        (labels.recolor, body.color),
    ]
    for edit, value in edits:
        if value is not None:
            edit(class_id, value)


def _project_info(session: ProjectSession) -> ProjectInfo:
    project, status = session.project, session.model.status()
    channels, height, width = project.image_shape
    return ProjectInfo(
        id=project.id,
        name=project.name,
        revision=status.revision,
        seq=project.labels.last_seq,
        n_cells=project.n_cells,
        image=ImageFormat(height=height, width=width, channels=channels),
        classes=_class_infos(project.labels.classes()),
        annotators=[AnnotatorInfo(name=name, n_labels=n_labels) for name, n_labels in project.labels.annotators()],
        model=ClassifierState(
            revision=status.revision,
            features_done=status.features_done,
            n_cells=status.n_cells,
            n_labels=status.n_labels,
            state=status.state,
            accuracy=status.accuracy,
            low=status.low,
            high=status.high,
            gain_of_last_40=status.gain_of_last_40,
            recalls=[
                ClassRecall(
                    class_id=recall.class_id,
                    n_labels=recall.n_labels,
                    recall=recall.recall,
                    low=recall.low,
                    high=recall.high,
                )
                for recall in status.recalls
            ],
            n_suspicious=status.n_suspicious,
            error=status.error,
        ),
        jobs=session.all_jobs(),
        has_stack=project.has_stack,
        segmenters=installed_segmenters(),
        token=session.token,
    )


def _class_infos(classes: list[LabelClass]) -> list[ClassInfo]:
    return [ClassInfo(id=item.id, name=item.name, color=item.color, n_labels=item.n_labels) for item in classes]
