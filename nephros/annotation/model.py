"""The model of a project: features of all cells in the background, and a head that is fitted again after each label."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.agreement import Agreement, compare_annotators
from nephros.annotation.features import CellFeatures
from nephros.annotation.filters import Filters
from nephros.annotation.head_fitting import fit_state, review_state
from nephros.annotation.head_review import ClassReview
from nephros.annotation.label_snapshot import LabelSnapshots
from nephros.annotation.model_state import FeatureSpace, ModelState
from nephros.annotation.predictions import (
    CellDetails,
    CellPrediction,
    check_cells,
    describe_cell,
    heatmap,
    predict_cells,
)
from nephros.annotation.query_order import QueryOrderCache
from nephros.annotation.sorts import order_cells
from nephros.inference.predictor import Predictor

if TYPE_CHECKING:
    from nephros.annotation.project import Project

logger = logging.getLogger(__name__)

POLL_S = 0.5
"""Seconds after which new cells, and labels that another process wrote, are noticed; `wake` is immediate."""
NOTIFY_S, SAVE_S = 1.0, 5.0
"""Seconds after which listeners hear how many features are done, and after which new features are kept and used."""
HEAD_WAIT_S = 0.25
"""Seconds for which an order that depends on the head waits for that of the newest label: an order of before would be computed
for nothing, while the head is fitted, and again after it."""
REVIEW_OVERDUE_S = 10.0
"""Seconds after which a cross-validation is no longer ended by new labels, which come faster than it ends."""
_HEAD_SORTS = ("uncertainty", "probability", "suspicious")
ClassifierStage = Literal["features", "few labels", "fitting", "ready"]
"""features: being computed, and no head yet; few labels: of fewer than two classes; fitting: labels are newer than the head;
ready."""
_NICENESS = 10
_RETRY_S = 5.0


@dataclasses.dataclass(frozen=True)
class ModelStatus:
    """How far the model is, and how good."""

    revision: int
    """Grows whenever predictions or figures change."""
    features_done: int
    n_cells: int
    n_labels: int
    state: ClassifierStage
    accuracy: float | None
    """In cross-validation on the labeled cells, with its 95% interval. Labels that were chosen because they are difficult make it
    lower than that of all cells."""
    low: float | None
    high: float | None
    gain_of_last_40: float | None
    """What the latest 40 labels added to the accuracy."""
    recalls: tuple[ClassReview, ...]
    n_suspicious: int
    error: str = ""
    """What keeps the background threads from their work, such as a full disk; they try again."""


class AnnotationModel:
    """Predictions for a project's cells, which follow its labels. All methods may be called from several threads.

    Two threads do the work: one of low priority extends the features, the other fits the head whenever labels change, and then
    computes the order of what to label next, and cross-validates the head. Readers see one `ModelState` at a time.
    """

    def __init__(self, project: Project, predictor: Predictor) -> None:
        """Take the project and the network that gives the features; IncompatibleError for a classical baseline."""
        self._project = project
        self._features = CellFeatures(project.root, predictor)
        self._predictor = predictor
        self._snapshots = LabelSnapshots(project)
        self._listeners: list[Callable[[int], None]] = []
        self._closing, self._wakes = threading.Event(), (threading.Event(), threading.Event())
        self._threads: list[threading.Thread] = []
        self._published = threading.Condition()
        self._errors = {"features": "", "head": ""}  # by thread
        self._query_order = QueryOrderCache()
        self._blas_limit: Any = None
        self._reviewed_at = time.monotonic()
        state = self._snapshots.read(FeatureSpace(*self._features.rows()), revision=1)
        self._state = fit_state(state, state)

    def start(self) -> None:
        """Start the threads. Until `close`, NumPy's linear algebra has one thread in this process: on arrays as small as a
        head's, more threads wait for each other most of the time, and keep the processor from answering requests."""
        from threadpoolctl import threadpool_limits

        self._blas_limit = threadpool_limits(1, user_api="blas")
        for name, target in (("features", self._extend_features), ("head", self._follow_labels)):
            thread = threading.Thread(target=self._retrying, args=(name, target), name=f"nephros-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Stop the threads; features so far are on disk."""
        self._closing.set()
        self.wake()
        for thread in self._threads:
            thread.join()
        self._threads = []
        if self._blas_limit is not None:
            self._blas_limit.restore_original_limits()

    def wake(self) -> None:
        """Look for new labels and cells now; call it after each change of a label."""
        for event in self._wakes:
            event.set()

    def add_listener(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the revision, in a background thread, whenever predictions or figures change, and about
        once per second while features are computed, with the revision as it is."""
        self._listeners.append(callback)

    @property
    def state(self) -> ModelState:
        """The latest state, which never changes."""
        return self._state

    def status(self) -> ModelStatus:
        """Return how far the model is; cheap."""
        state, review = self._state, self._state.review
        n_cells, n_known = self._project.n_cells, len(state.space)
        is_behind = self._snapshots.is_stale(state) or self._features.n_done >= n_cells > n_known
        name: ClassifierStage
        if state.head is None and n_known < n_cells:
            name = "features"
        elif state.head is None and not is_behind:
            name = "few labels"
        else:
            name = "fitting" if is_behind else "ready"
        return ModelStatus(
            state.revision,
            self._features.n_done,
            n_cells,
            state.n_labels,
            name,
            None if review is None else review.accuracy,
            None if review is None else review.low,
            None if review is None else review.high,
            None if review is None else review.gain_of_recent,
            () if review is None else review.classes,
            0 if review is None else len(review.suspicious),
            " ".join(filter(None, self._errors.values())),
        )

    def order(
        self,
        sort: str,
        filters: Filters = Filters(),  # noqa: B008 - frozen
        *,
        class_id: int | None = None,
        to: int | None = None,
        descending: bool = False,
    ) -> NDArray[np.uint32]:
        """Return the cells that pass the filters, (k,), as `nephros.annotation.sorts.order_cells` does.

        An order that depends on the head waits up to HEAD_WAIT_S for one that has seen all labels.
        """
        if sort in _HEAD_SORTS:
            self._wait_for_head()
        return order_cells(
            self._current_state(),
            sort,
            filters,
            class_id=class_id,
            to=to,
            descending=descending,
            query_order=self._query_order,
        )

    def predictions(self, cells: Sequence[int]) -> list[CellPrediction]:
        """Return the predictions of cells; InvalidArgument for one that doesn't exist."""
        return predict_cells(self._current_state(), cells)

    def details(self, cell: int) -> CellDetails:
        """Return probabilities and similar cells of a cell; InvalidArgument for one that doesn't exist."""
        state = self._current_state()
        check_cells(state, [cell])
        return describe_cell(state, cell, self._project.images([cell]), self._predictor)

    def heatmap(self, cell: int) -> NDArray[np.float32]:
        """Return (h, w), 0 to 1, where the evidence for a cell's predicted class lies; IncompleteError before there is one."""
        state = self._current_state()
        check_cells(state, [cell])
        return heatmap(state, cell, self._project.images([cell]), self._predictor)

    def suspicious(self) -> list[int]:
        """Return the cells whose label looks wrong, the most suspicious first."""
        state = self._current_state()
        return [] if state.review is None else [cell for cell in state.review.suspicious if state.labels[cell] >= 0]

    def agreement(self) -> list[Agreement]:
        """Return how well each pair of annotators agrees on the cells that both labeled."""
        return compare_annotators(self._current_state().labels_by_annotator)

    def _current_state(self) -> ModelState:
        """Return the latest state, with the labels and cells of now: a labeled cell never comes back as an unlabeled one."""
        return self._snapshots.brought_up_to_date(self._state)

    def _wait_for_head(self) -> None:
        def is_ready() -> bool:
            return not self._threads or self._closing.is_set() or not self._snapshots.is_stale(self._state)

        with self._published:
            self._published.wait_for(is_ready, HEAD_WAIT_S)

    def _publish(self, state: ModelState) -> ModelState:
        with self._published:
            state = dataclasses.replace(state, revision=self._state.revision + 1)
            self._state = state
            self._published.notify_all()
        self._errors["head"] = ""
        self._notify(state.revision)
        return state

    def _notify(self, revision: int) -> None:
        for callback in self._listeners:
            callback(revision)

    def _set_error(self, thread: str, error: str) -> None:
        if self._errors[thread] != error:
            self._errors[thread] = error
            self._notify(self._state.revision)

    def _retrying(self, thread: str, work: Callable[[], None]) -> None:
        """Run a thread's work until the model is closed; what keeps it from that, such as a full disk, is logged and retried."""
        while not self._closing.is_set():
            try:
                work()
            except Exception as error:  # the thread must survive what may pass, and the page shows it
                logger.exception("The model of %s stopped, and starts again in a moment", self._project.root)
                # An error of the system is told without the path, which is the server's.
                reason = error.strerror if isinstance(error, OSError) else None
                self._set_error(thread, reason or f"{type(error).__name__}: {error}")
                self._closing.wait(_RETRY_S)

    def _extend_features(self) -> None:
        lower_priority_of_thread()
        wake, notified, saved = self._wakes[0], time.monotonic(), time.monotonic()
        while not self._closing.is_set():
            n_cells = self._project.n_cells
            if self._features.saved >= n_cells:
                wake.wait(POLL_S)
                wake.clear()
                continue
            n_done = self._features.extend(self._project.images, n_cells)
            now = time.monotonic()
            if n_done == n_cells or now > saved + SAVE_S:
                self._features.save()
                saved = now
                self._set_error("features", "")
                self._wakes[1].set()
            if now > notified + NOTIFY_S:
                notified = now
                self._notify(self._state.revision)
        with contextlib.suppress(OSError):
            self._features.save()

    def _follow_labels(self) -> None:
        wake = self._wakes[1]
        while not self._closing.is_set():
            wake.clear()
            state = self._state
            n_done = self._features.saved
            if self._snapshots.is_stale(state) or n_done > len(state.space) or state.n_cells != self._project.n_cells:
                space = state.space if n_done == len(state.space) else FeatureSpace(*self._features.rows())
                state = self._publish(fit_state(self._snapshots.read(space, revision=state.revision), state))
                self._query_order(state)
            elif state.head is not None and not state.has_current_review:
                is_overdue = time.monotonic() > self._reviewed_at + REVIEW_OVERDUE_S
                is_stale = self._closing.is_set if is_overdue else lambda: wake.is_set() or self._closing.is_set()
                review = review_state(state, is_stale)
                if review is not None or not is_stale():
                    self._reviewed_at = time.monotonic()
                    self._publish(dataclasses.replace(state, review=review, has_current_review=True))
            else:
                wake.wait(POLL_S)


def lower_priority_of_thread() -> None:
    """Give this thread less of a busy processor than others, where the system has priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
