"""Which mistakes are shown, beside which cells, and how cells are made ready to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from nephros.data.display import enlarge, overlay, png_address
from nephros.evaluation.metrics import summarise
from nephros.evaluation.scoring import Evaluation
from nephros.interpretability.reasons import Reason, Similar
from nephros.reporting.run.cell_panels import triptychs
from nephros.reporting.run.misclassified import exemplars, mistakes

NAMES = ("round", "oval", "lobed")


def of(rows: list[tuple[int, list[float]]]) -> Evaluation:
    """Return an Evaluation of (label, probabilities) rows."""
    labels = np.array([label for label, _ in rows])
    probabilities = np.array([row for _, row in rows])
    return Evaluation(summarise(probabilities, labels, NAMES), probabilities, labels)


ROWS = [
    (0, [0.9, 0.1, 0.0]),
    (0, [0.6, 0.4, 0.0]),
    (0, [0.2, 0.7, 0.1]),  # 2: the less sure mistake
    (0, [0.1, 0.9, 0.0]),  # 3: the surer one
    (1, [0.2, 0.8, 0.0]),
    (1, [0.3, 0.7, 0.0]),
    (2, [0.8, 0.1, 0.1]),  # 6: its class is never called rightly
    (2, [0.6, 0.1, 0.3]),
]


def test_the_surest_mistakes_come_first_between_the_surest_right_cells() -> None:
    first, second = mistakes(of(ROWS), 0)
    assert (first.mistake.index, second.mistake.index) == (3, 2)
    assert (first.predicted.index, first.actual.index) == (4, 0)
    assert (second.predicted.index, second.actual.index) == (5, 1)
    assert first.mistake.confidence == 0.9
    assert first.mistake.of_actual == 0.1
    assert first.predicted.right


def test_a_class_that_is_never_right_shows_its_likeliest_other_cell() -> None:
    found = exemplars(of(ROWS), 2, 1)
    assert [(cell.index, cell.right) for cell in found] == [(7, False)]
    for row in mistakes(of(ROWS), 2):
        assert row.actual.index != row.mistake.index
        assert row.actual.actual == 2


def test_no_mistakes_and_missing_classes_show_nothing() -> None:
    assert mistakes(of(ROWS[4:6] + ROWS[:2]), 1) == []
    assert exemplars(of(ROWS[:6]), 2, 3) == []
    only_of_an_absent_class = of([(0, [0.1, 0.0, 0.9]), (0, [0.9, 0.1, 0.0]), (1, [0.0, 1.0, 0.0])])
    assert mistakes(only_of_an_absent_class, 0) == []


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (20, 30)])
def test_triptychs_draw_three_cells_a_row(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 60, (len(ROWS), *shape)).astype(np.uint8)
    rows = mistakes(of(ROWS), 0)
    figure = triptychs(rows, images, NAMES, "test", "Made-up cells, synthetic")
    shown = figure.axes[0].images
    assert len(shown) == 3 * len(rows)
    assert np.array_equal(np.asarray(shown[2].get_array()), enlarge(images[3], 56))
    found = [artist.get_text() for artist in figure.findobj(Text)]
    for text in ("an image of the\npredicted class", "the misclassified\ncell", "an image of the\nactual class"):
        assert text in found
    for text in ("round", "oval", "right, p 0.80", "← 0.90", "0.10 →", "Made-up cells, synthetic"):
        assert text in found


def test_reasons_stand_below_their_mistake() -> None:
    images = np.random.default_rng(0).integers(0, 60, (len(ROWS), 28, 28)).astype(np.uint8)
    rows = mistakes(of(ROWS), 0)
    heat = np.zeros((28, 28), dtype=np.float32)
    heat[:14] = 1
    reason = Reason(heat, "occlusion", (Similar(images[5], 2, 0.875), Similar(images[6], 1, 0.5)))
    figure = triptychs(rows, images, NAMES, "test", "Made-up cells, synthetic", [reason] * len(rows))
    shown = [np.asarray(image.get_array()) for image in figure.axes[0].images]
    assert len(shown) == 6 * len(rows)
    assert any(np.array_equal(one, overlay(images[3], heat, 56)) for one in shown)
    assert any(np.array_equal(one, enlarge(images[5], 56)) for one in shown)
    found = [artist.get_text() for artist in figure.findobj(Text)]
    for text in ("what spoke for it", "(occlusion)", "lobed", "similar, 0.88", "similar, 0.50"):
        assert text in found


def test_heat_colours_a_cell_where_it_is_and_nowhere_else() -> None:
    cell = np.random.default_rng(0).integers(0, 200, (28, 28)).astype(np.uint8)
    heat = np.zeros((28, 28), dtype=np.float32)
    heat[:, :10] = 1
    drawn, plain = overlay(cell, heat), enlarge(cell)
    assert drawn.shape == (112, 112, 3)
    assert (drawn[:, 60:] == plain[:, 60:, None]).all()
    warm = drawn[:, :30].astype(int)
    assert (warm[..., 0] >= warm[..., 2]).all()
    assert (warm[..., 0] - warm[..., 2]).mean() > 50


def test_grey_cells_are_stretched_to_white_and_colours_left_alone() -> None:
    grey = np.zeros((28, 28), dtype=np.uint8)
    grey[10:18, 10:18] = 50
    assert enlarge(grey).shape == (112, 112)
    assert enlarge(grey).max() == 255
    colour = np.full((28, 28, 3), 50, dtype=np.uint8)
    assert enlarge(colour).shape == (112, 112, 3)
    assert (enlarge(colour) == 50).all()
    assert enlarge(np.zeros((28, 28), dtype=np.uint8)).max() == 0
    assert enlarge(np.zeros((200, 150), dtype=np.uint8)).shape == (200, 150)


def test_a_cells_address_holds_its_png(evaluation: Callable[..., Evaluation]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (28, 28)).astype(np.uint8)
    head, data = png_address(image).split(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), enlarge(image))
