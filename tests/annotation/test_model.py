"""The model of a project: features in the background, a head after each label, and what it says of cells."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from nephros.annotation import model as model_module
from nephros.annotation.features import FEATURES_FILE, OOD_FILE, STATE_FILE, CellFeatures
from nephros.annotation.filters import Filters
from nephros.annotation.head_fitting import review_state
from nephros.annotation.head_review import HeadReview
from nephros.annotation.label_snapshot import LabelSnapshots, _padded
from nephros.annotation.model import AnnotationModel
from nephros.annotation.model_state import FeatureSpace, ModelState
from nephros.annotation.project import Project
from nephros.annotation.sorts import SORTS, order_cells
from nephros.errors import IncompleteError, InvalidArgument, UnknownName
from nephros.inference.predictor import Predictor
from tests.annotation.conftest import write_stack
from tests.annotation.model_project import LIMIT_S, make_project, nuclei, wait_for_model, wait_until

N_CELLS = 150


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_onnx(threads=1)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Iterator[AnnotationModel]:
    """The model of a project with forty right labels, two wrong ones of Bob's, and another opinion of his."""
    images, classes = nuclei(N_CELLS)
    project = make_project(tmp_path_factory.mktemp("labeled"), images)
    project.labels.apply([(cell, int(classes[cell])) for cell in range(40)], "Ann")
    project.labels.apply([(cell, int(classes[cell] + 1) % 3) for cell in (40, 41)], "Bob")
    project.labels.apply([(0, int(classes[0] + 1) % 3)], "Bob")
    project.labels.apply([(0, int(classes[0]))], "Ann")
    project.labels.apply([(1, int(classes[1]))], "Bob")
    model = AnnotationModel(project, predictor)
    model.start()
    wait_for_model(model, 42)
    yield model
    model.close()
    project.close()


def test_features_are_those_of_the_network_and_are_kept(tmp_path: Path, predictor: Predictor) -> None:
    images, _ = nuclei(40)
    project = make_project(tmp_path, images)
    features = CellFeatures(project.root, predictor)
    features.extend(project.images, 20)
    features.save()
    again = CellFeatures(project.root, predictor)
    assert again.n_done == 20
    reads: list[int] = []

    def read(cells: object) -> object:
        reads.extend(np.asarray(cells).tolist())
        return project.images(cells)  # type: ignore[arg-type]

    again.extend(read, 40)  # type: ignore[arg-type]
    assert reads == list(range(20, 40))
    batch = predictor.predict_batch(images)
    rows, scores = again.rows()
    assert batch.features is not None
    assert np.allclose(rows, batch.features, atol=1e-5)
    assert np.array_equal(scores > 1, batch.is_ood)


@pytest.mark.parametrize("damage", ["missing", "garbage", "other model", "cut", "too many", "no number"])
def test_damaged_features_are_computed_again(tmp_path: Path, predictor: Predictor, damage: str) -> None:
    project = make_project(tmp_path, nuclei(12)[0])
    features = CellFeatures(project.root, predictor)
    features.extend(project.images, 12)
    features.save()
    rows = features.rows()[0].copy()
    del features
    state = json.loads(project.path(STATE_FILE).read_text())
    if damage == "missing":
        project.path(OOD_FILE).unlink()
    elif damage == "cut":
        content = project.path(FEATURES_FILE).read_bytes()
        project.path(FEATURES_FILE).write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        project.path(STATE_FILE).write_bytes(b"\xff{")
    else:
        changes = {"other model": {"model_sha256": "0"}, "too many": {"n_done": 13}, "no number": {"n_done": None}}
        project.path(STATE_FILE).write_text(json.dumps(state | changes[damage]))
    again = CellFeatures(project.root, predictor)
    assert again.n_done == 0
    again.extend(project.images, 12)
    assert np.array_equal(again.rows()[0], rows)


def test_orders_hold_every_cell_once(labeled: AnnotationModel) -> None:
    for sort in SORTS:
        order = labeled.order(sort, to=3, class_id=1)
        assert order.dtype == np.uint32
        assert sorted(order.tolist()) == list(range(N_CELLS))
        assert np.array_equal(labeled.order(sort, to=3, class_id=1, descending=True), order[::-1])


def test_sorts(labeled: AnnotationModel) -> None:
    state = labeled.state
    assert (state.labels[labeled.order("uncertainty")[-42:].astype(int)] >= 0).all()
    assert labeled.order("similarity", to=7)[0] == 7
    assert labeled.order("recent")[:3].tolist() == [1, 0, 41]
    probabilities = {p.cell: dict(labeled.details(p.cell).probabilities) for p in labeled.predictions(range(N_CELLS))}
    by_probability = [probabilities[cell][2] for cell in labeled.order("probability", class_id=2).tolist()]
    assert by_probability == sorted(by_probability, reverse=True)
    scores = state.space.ood[labeled.order("ood").astype(int)]
    assert (np.diff(scores) <= 0).all()
    assert labeled.order("position").tolist() == list(range(N_CELLS))
    assert set(labeled.order("suspicious")[: len(labeled.suspicious())].tolist()) == set(labeled.suspicious())
    assert {40, 41} & set(labeled.suspicious()[:3])


def test_filters(labeled: AnnotationModel) -> None:
    def shown(**conditions: object) -> set[int]:
        return set(labeled.order("position", Filters(**conditions)).tolist())  # type: ignore[arg-type]

    assert shown(unlabeled=True) == set(range(42, N_CELLS))
    assert shown(mine=True, annotator="Bob") == {0, 1, 40, 41}
    assert shown(mine=True, annotator="Carol") == set()
    assert shown(disagrees=True) == {0}
    assert shown(disagrees=True, unlabeled=True) == set()
    unsure = {p.cell for p in labeled.predictions(range(N_CELLS)) if len(p.prediction_set) != 1}
    assert shown(unsure=True) == unsure
    assert shown(ood=True) == {p.cell for p in labeled.predictions(range(N_CELLS)) if p.is_ood}
    by_class = [shown(class_id=class_id) for class_id in range(3)]
    assert sum(map(len, by_class)) == N_CELLS == len(set().union(*by_class))
    assert shown(class_id=7) == set()


@pytest.mark.parametrize(
    ("arguments", "error", "parameter"),
    [
        ({"sort": "uncertanty"}, UnknownName, "sort"),
        ({"sort": "similarity"}, InvalidArgument, "to"),
        ({"sort": "similarity", "to": -1}, InvalidArgument, "to"),
        ({"sort": "similarity", "to": N_CELLS}, InvalidArgument, "to"),
        ({"sort": "probability"}, InvalidArgument, "class_id"),
        ({"sort": "position", "filters": Filters(mine=True)}, InvalidArgument, "annotator"),
    ],
)
def test_invalid_orders(
    labeled: AnnotationModel, arguments: dict[str, object], error: type[InvalidArgument], parameter: str
) -> None:
    with pytest.raises(error) as raised:
        labeled.order(**arguments)  # type: ignore[arg-type]
    assert raised.value.parameter == parameter


def test_status_and_predictions(labeled: AnnotationModel) -> None:
    status = labeled.status()
    assert (status.features_done, status.n_cells, status.n_labels, status.state) == (N_CELLS, N_CELLS, 42, "ready")
    assert status.accuracy is not None
    assert status.low is not None
    assert status.high is not None
    assert 0 <= status.low < status.accuracy < status.high <= 1
    assert [recall.class_id for recall in status.recalls] == [0, 1, 2]
    assert sum(recall.n_labels for recall in status.recalls) == 42
    for prediction in labeled.predictions([3, 100]):
        assert prediction.class_id == prediction.prediction_set[0]
    details = labeled.details(100)
    assert sum(p for _, p in details.probabilities) == pytest.approx(1, abs=1e-5)
    assert len(details.similar) == 8
    assert 100 not in dict(details.similar)
    heatmap = labeled.heatmap(100)
    assert heatmap.shape == (28, 28)
    assert 0 <= heatmap.min() <= heatmap.max() <= 1
    for cell in (-1, N_CELLS):
        with pytest.raises(InvalidArgument):
            labeled.predictions([cell])
        with pytest.raises(InvalidArgument):
            labeled.details(cell)
    (agreement,) = labeled.agreement()
    assert (agreement.a, agreement.b, agreement.n_both, agreement.n_disagree) == ("Ann", "Bob", 2, 1)


def test_a_full_disk_is_told_and_features_are_kept_once_there_is_room(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, nuclei(12)[0])
    model = AnnotationModel(project, predictor)
    is_full, save, errors = threading.Event(), CellFeatures.save, list[str]()

    def save_if_there_is_room(features: CellFeatures) -> None:
        if is_full.is_set():
            raise OSError(28, "No space left on device", "/data/kidney/features.json")
        save(features)

    is_full.set()
    monkeypatch.setattr(model_module, "_RETRY_S", 0.01)
    monkeypatch.setattr(CellFeatures, "save", save_if_there_is_room)
    model.add_listener(lambda _: errors.append(model.status().error))
    model.start()
    try:
        wait_until(lambda: "No space left on device" in errors)
        is_full.clear()
        wait_until(lambda: len(model.state.space) == 12 and errors[-1] == "")
    finally:
        model.close()
        project.close()


@pytest.mark.slow
def test_labels_change_the_order_and_new_cells_are_noticed(tmp_path: Path, predictor: Predictor) -> None:
    images, classes = nuclei(60)
    project = make_project(tmp_path, images[:40])
    model = AnnotationModel(project, predictor)
    revisions: list[int] = []
    model.add_listener(revisions.append)
    model.start()
    try:
        wait_for_model(model, 0)
        assert model.status().state == "few labels"
        assert model.predictions([0])[0].class_id is None
        with pytest.raises(IncompleteError):
            model.heatmap(0)
        tour = model.order("uncertainty").tolist()
        assert sorted(tour) == list(range(40))
        project.labels.apply([(cell, int(classes[cell])) for cell in tour[:15]], "Ann")
        model.wake()
        wait_for_model(model, 15)
        assert set(model.order("uncertainty")[-15:].tolist()) == set(tour[:15])
        np.savez(tmp_path / "more.npz", images=images[40:])
        project.add_cells(tmp_path / "more.npz")
        assert len(model.order("uncertainty")) == 60
        assert len(model.predictions([59])) == 1
        wait_for_model(model, 15)
        assert model.predictions([59])[0].class_id is not None
        project.labels.merge(1, into=0)
        wait_until(lambda: model.state.class_ids == (0, 2))
        assert revisions == sorted(revisions)
    finally:
        model.close()
    assert AnnotationModel(project, predictor).status().accuracy is None  # it is not started, but has a head at once
    assert AnnotationModel(project, predictor).state.head is not None


@pytest.mark.parametrize("sort", ["uncertainty", "probability"])
def test_an_order_has_seen_the_label_that_was_just_saved(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(model_module, "HEAD_WAIT_S", LIMIT_S)
    images, classes = nuclei(24)
    project = make_project(tmp_path, images)
    model = AnnotationModel(project, predictor)
    model.start()
    try:
        wait_for_model(model, 0)
        for n_labels in range(1, 8):
            project.labels.apply([(n_labels, int(classes[n_labels]))], "Ann")
            model.wake()
            order = model.order(sort, class_id=0)
            assert model.state.n_labels == n_labels
            assert sorted(order.tolist()) == list(range(24))
            if sort == "uncertainty":
                assert set(order[-n_labels:].tolist()) == set(range(1, n_labels + 1))
    finally:
        model.close()


@pytest.mark.parametrize(("overdue_s", "is_ended"), [(LIMIT_S, True), (-1.0, False)])
def test_new_labels_end_a_cross_validation_unless_it_is_overdue(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, overdue_s: float, is_ended: bool
) -> None:
    monkeypatch.setattr(model_module, "REVIEW_OVERDUE_S", overdue_s)
    images, classes = nuclei(24)
    project = make_project(tmp_path, images)
    model = AnnotationModel(project, predictor)
    ended: list[bool] = []

    def review(state: ModelState, is_stale: Callable[[], bool]) -> HeadReview | None:
        model.wake()  # as a label does that comes in the middle
        ended.append(is_stale())
        return review_state(state, is_stale)

    monkeypatch.setattr(model_module, "review_state", review)
    project.labels.apply([(cell, int(classes[cell])) for cell in range(15)], "Ann")
    model.start()
    try:
        wait_until(lambda: bool(ended))
    finally:
        model.close()
    assert ended[0] == is_ended


def test_linear_algebra_has_one_thread_while_the_model_works(tmp_path: Path, predictor: Predictor) -> None:
    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    model = AnnotationModel(make_project(tmp_path, nuclei(2)[0]), predictor)
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        model.start()
        while_it_works = threads()
        model.close()
        assert while_it_works <= {1}  # none of a library that can't be limited, such as Apple's
        assert threads() == before


def test_many_predictions_of_an_empty_project(tmp_path: Path, predictor: Predictor) -> None:
    project = Project.create(tmp_path / "empty")
    model = AnnotationModel(project, predictor)
    model.start()
    model.close()
    assert model.order("uncertainty").tolist() == model.order("ood").tolist() == []
    assert model.predictions([]) == []
    assert model.agreement() == []
    with pytest.raises(InvalidArgument):
        model.order("similarity", to=0)


def test_a_model_is_behind_until_its_state_has_the_labels(tmp_path: Path) -> None:
    project = make_project(tmp_path, nuclei(12)[0])
    snapshots = LabelSnapshots(project)
    before = snapshots.read(FeatureSpace(np.zeros((0, 1), np.float32), np.zeros(0, np.float32)), revision=1)
    assert not snapshots.is_stale(before)
    project.labels.apply([(0, 0)], "ann")
    after = snapshots.read(before.space, revision=2)
    assert snapshots.is_stale(before)  # it was read again, but readers see this one until the head is fitted
    assert not snapshots.is_stale(after)
    project.close()


def test_the_order_of_the_data_is_that_of_ids_and_rows(tmp_path: Path) -> None:
    stack, mask, masks = write_stack(tmp_path)
    tifffile.imwrite(mask, np.where(masks > 0, 200 - masks, 0).astype(np.uint16), photometric="minisblack")
    project = Project.create(tmp_path / "project")
    np.savez(tmp_path / "cells.npz", images=nuclei(5)[0])
    project.add_cells([stack], mask=str(mask))
    project.add_cells(tmp_path / "cells.npz")
    space = FeatureSpace(np.zeros((0, 1), np.float32), np.zeros(0, np.float32))
    state = LabelSnapshots(project).read(space, revision=1)
    order = order_cells(state, "position", Filters()).tolist()
    rows = [(Path(project.table.files[cell]).suffix, int(project.table.indices[cell])) for cell in order]
    ids = sorted({200 - value for value in np.unique(masks[masks > 0]).tolist()})
    assert rows == [*((".tif", number) for number in ids), *((".npz", row) for row in range(5))]
    project.close()


def test_the_latest_change_of_each_cell_is_known_however_many_come_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, nuclei(12)[0])
    copies: list[int] = []

    def count_copies(values: NDArray[np.int64], n: int, value: int) -> NDArray[np.int64]:
        copies.append(n)
        return _padded(values, n, value)

    monkeypatch.setattr("nephros.annotation.label_snapshot._padded", count_copies)
    space = FeatureSpace(np.zeros((0, 1), np.float32), np.zeros(0, np.float32))
    snapshots, n_copies = LabelSnapshots(project), []
    for cells in ([], [3], [5, 1, 3, 9, 1], [0]):
        project.labels.apply([(cell, 0) for cell in cells], "ann")
        copies.clear()
        state = snapshots.read(space, revision=1)
        n_copies.append(len(copies))
        expected = np.zeros(12, np.int64)
        for change in project.labels.changes_since(0):
            expected[change.cell] = change.seq
        assert np.array_equal(state.last_change, expected)
    assert max(n_copies) <= 4  # and not one for each change
    project.close()


def test_orders_and_filters_follow_labels_before_the_head_does(tmp_path: Path) -> None:
    project = make_project(tmp_path, nuclei(20)[0])
    model = AnnotationModel(project, project.load_predictor())  # its threads never start
    project.labels.apply([(cell, cell % 2) for cell in (3, 5, 7)], "Ann")
    assert set(model.order("uncertainty")[-3:].tolist()) == {3, 5, 7}
    assert set(model.order("position", Filters(unlabeled=True)).tolist()) == set(range(20)) - {3, 5, 7}
    assert model.order("recent")[:3].tolist() == [7, 5, 3]
    assert model.order("position", Filters(mine=True, annotator="Ann")).tolist() == [3, 5, 7]
    project.labels.apply([(5, None)], "Bo")
    assert model.order("position", Filters(unlabeled=True))[4] == 5
    assert model.status().state != "ready"
    project.close()
