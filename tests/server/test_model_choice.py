"""Requests may name one of the models that the server offers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nephros.exporters.loading import load_classifier
from nephros.inference.bundled import DEFAULT_MODEL, bundled_names
from tests.conftest import square_images
from tests.server.live_server import LiveServer, encode_image, run_server

CELL = square_images(1, 4, 9)[0][0]


def test_the_only_model_has_a_name_and_no_other_exists(server: LiveServer) -> None:
    (model,) = server.json("GET", "/models")[1]
    assert (model["name"], model["default"]) == ("squares", True)
    files = [("a.png", encode_image(CELL))]
    assert server.predict(files, "?model=squares") == server.predict(files)
    for name, expected in ((DEFAULT_MODEL, 404), ("../squares", 404), ("", 422), ("x" * 1000, 422)):
        status, response = server.json("POST", f"/predict?model={name}", files)
        assert (status, list(response)) == (expected, ["error"]), name


@pytest.mark.slow
def test_bundled_models_are_offered_by_name(cells_npz: Path) -> None:
    with run_server(["--reference-data", cells_npz]) as server:
        models = server.json("GET", "/models")[1]
        assert [model["name"] for model in models] == list(bundled_names())
        for name in bundled_names():
            (result,) = server.predict([("a.png", encode_image(CELL))], f"?model={name}")
            expected = load_classifier(name).predict_batch(CELL[None]).probabilities[0]
            assert result["probabilities"] == pytest.approx(expected.tolist(), abs=1e-5)
        reference = np.load(cells_npz)
        files = [("a.png", encode_image(reference["train_images"][17]))]
        for name in bundled_names():  # each finds the cell itself, by its own features
            (result,) = server.predict(files, f"?model={name}&n_neighbors=2")
            assert result["similar_cells"][0]["similarity"] == pytest.approx(1, abs=1e-3)
            assert result["similar_cells"][0]["label"] == reference["train_labels"][17][0]
