"""Models whose outputs are no numbers or contradict the card: /health says so, and rows get errors instead of classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.errors import IncompatibleError
from nephros.inference.predictor import Predictor
from nephros.server.app import create_app
from nephros.server.service import Service
from tests.conftest import square_images
from tests.server.call_app import call_app
from tests.server.live_server import encode_image, multipart_body

CELLS = square_images(4, 4, 0)[0]
BODY, _ = multipart_body([(f"{i}.png", encode_image(cell)) for i, cell in enumerate(CELLS)])
OPTIONS = "details=true&explain=true&n_neighbors=3"
Outputs = dict[str, NDArray[np.float32]]


def _fill(name: str, value: float) -> Callable[[Outputs], Outputs]:
    return lambda outputs: {**outputs, name: np.full_like(outputs[name], value)}


def _map_all(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Callable[[Outputs], Outputs]:
    return lambda outputs: {name: change(output) for name, output in outputs.items()}


NOT_FINITE: dict[str, Callable[[Outputs], Outputs]] = {
    "probabilities of NaN": _fill("probabilities", np.nan),
    "infinite probabilities": _fill("probabilities", np.inf),
    "features of NaN": _fill("features", np.nan),
    "infinite features": _fill("features", -np.inf),
    "maps of NaN": _fill("class_activation_maps", np.nan),
    "all NaN": _map_all(lambda output: np.full_like(output, np.nan)),
}
CONTRADICTIONS: dict[str, Callable[[Outputs], Outputs]] = {
    "a class too few": lambda outputs: {**outputs, "probabilities": outputs["probabilities"][:, :-1]},
    "a class too many": lambda outputs: {
        **outputs,
        "probabilities": np.pad(outputs["probabilities"], ((0, 0), (0, 1))),
    },
    "a row too few": _map_all(lambda output: output[:-1]),
    "features of another count": lambda outputs: {**outputs, "features": np.repeat(outputs["features"], 2, axis=0)},
    "no probabilities": lambda outputs: {"features": outputs["features"]},
    "one dimension": lambda outputs: {**outputs, "probabilities": outputs["probabilities"].ravel()},
}


@contextmanager
def _app_of(predictor: Predictor, change: Callable[[Outputs], Outputs]) -> Iterator[Any]:
    """Yield the application of a model whose outputs are changed."""
    service = Service(Predictor(lambda cells: change(predictor._forward_fn(cells)), predictor.card))
    yield create_app(service, [])
    service.close()


@pytest.mark.parametrize("case", [*NOT_FINITE, *CONTRADICTIONS])
def test_health_fails_and_rows_get_errors(predictor: Predictor, case: str) -> None:
    with _app_of(predictor, (NOT_FINITE | CONTRADICTIONS)[case]) as app:
        status, text = call_app(app, "GET", "/health")
        assert (status, json.loads(text)["status"]) == (503, "failing")
        assert json.loads(text)["error"] != "The model does not respond."
        for query in ("", f"?{OPTIONS}"):
            status, text = call_app(app, "POST", f"/predict{query}", BODY)
            assert status == 200
            results = json.loads(text)["results"]
            status, text = call_app(app, "POST", f"/predict/batch{query}", BODY)
            *lines, last_line = map(json.loads, text.splitlines())
            assert last_line["done"] is True
            assert len(results) == len(lines) == len(CELLS)
            for result in (*results, *lines):
                assert result["error"]
                assert "\n" not in result["error"]
                for key in ("label", "class_name", "probabilities", "prediction_set", "is_ood"):
                    assert result[key] is None


def test_only_rows_without_numbers_get_errors(predictor: Predictor) -> None:
    def change(outputs: Outputs) -> Outputs:
        probabilities = outputs["probabilities"].copy()
        probabilities[1::2, 0] = np.nan
        return {**outputs, "probabilities": probabilities}

    with _app_of(predictor, change) as app:
        assert call_app(app, "GET", "/health")[0] == 200  # the one blank cell is in row 0
        results = json.loads(call_app(app, "POST", f"/predict?{OPTIONS}", BODY)[1])["results"]
        assert [result["error"] is None for result in results] == [True, False] * 2
        assert [result["preview"] is None for result in results] == [False, True] * 2
        metrics = call_app(app, "GET", "/metrics")[1]
        assert "nephros_prediction_errors_total 2.0" in metrics


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_the_predictor_refuses_outputs_that_contradict_the_card(predictor: Predictor, case: str) -> None:
    changed = Predictor(lambda cells: CONTRADICTIONS[case](predictor._forward_fn(cells)), predictor.card)
    with pytest.raises(IncompatibleError):
        changed.predict_batch(CELLS)


def test_is_finite_looks_at_every_output(predictor: Predictor) -> None:
    predictions = predictor.predict_batch(CELLS)
    assert predictions.is_finite.tolist() == [True] * len(CELLS)
    assert predictions[:0].is_finite.shape == (0,)
