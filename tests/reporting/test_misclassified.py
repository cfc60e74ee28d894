"""Choice and figures of misclassified cells, and how cells are prepared for display."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from nephros.data.images.transforms import overlay_heatmap, png_data_uri, to_display
from nephros.evaluation.metrics import compute_metrics
from nephros.evaluation.scoring import Evaluation
from nephros.interpretability.run_explainer import CellExplanation, SimilarCell
from nephros.reporting.run.misclassified import most_confident_correct, most_confident_errors, plot_misclassified

NAMES = ("round", "oval", "lobed")


def evaluation_of(rows: list[tuple[int, list[float]]]) -> Evaluation:
    """Return an Evaluation of (label, probabilities) rows."""
    labels = np.array([label for label, _ in rows])
    probabilities = np.array([row for _, row in rows])
    return Evaluation(compute_metrics(probabilities, labels, NAMES), probabilities, labels)


ROWS = [
    (0, [0.9, 0.1, 0.0]),
    (0, [0.6, 0.4, 0.0]),
    (0, [0.2, 0.7, 0.1]),  # 2: the less confident error
    (0, [0.1, 0.9, 0.0]),  # 3: the more confident one
    (1, [0.2, 0.8, 0.0]),
    (1, [0.3, 0.7, 0.0]),
    (2, [0.8, 0.1, 0.1]),  # 6: its class is never classified correctly
    (2, [0.6, 0.1, 0.3]),
]


def test_the_most_confident_errors_come_first_between_confident_correct_cells() -> None:
    first, second = most_confident_errors(evaluation_of(ROWS), 0)
    assert (first.cell.index, second.cell.index) == (3, 2)
    assert (first.predicted_example.index, first.actual_example.index) == (4, 0)
    assert (second.predicted_example.index, second.actual_example.index) == (5, 1)
    assert first.cell.confidence == 0.9
    assert first.cell.actual_probability == 0.1
    assert first.predicted_example.is_correct


def test_a_class_without_correct_predictions_shows_its_most_probable_cell() -> None:
    cells = most_confident_correct(evaluation_of(ROWS), 2, 1)
    assert [(cell.index, cell.is_correct) for cell in cells] == [(7, False)]
    for row in most_confident_errors(evaluation_of(ROWS), 2):
        assert row.actual_example.index != row.cell.index
        assert row.actual_example.actual == 2


def test_classes_without_errors_or_cells_show_nothing() -> None:
    assert most_confident_errors(evaluation_of(ROWS[4:6] + ROWS[:2]), 1) == []
    assert most_confident_correct(evaluation_of(ROWS[:6]), 2, 3) == []
    all_predicted_absent = evaluation_of([(0, [0.1, 0.0, 0.9]), (0, [0.9, 0.1, 0.0]), (1, [0.0, 1.0, 0.0])])
    assert most_confident_errors(all_predicted_absent, 0) == []


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (20, 30)])
def test_triptychs_draw_three_cells_per_error(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 60, (len(ROWS), *shape)).astype(np.uint8)
    rows = most_confident_errors(evaluation_of(ROWS), 0)
    figure = plot_misclassified(rows, images, NAMES, "test", "Example cells, synthetic")
    drawn_images = figure.axes[0].images
    assert len(drawn_images) == 3 * len(rows)
    assert np.array_equal(np.asarray(drawn_images[2].get_array()), to_display(images[3], 56))
    texts = [artist.get_text() for artist in figure.findobj(Text)]
    for text in ("predicted class", "misclassified image", "actual class"):
        assert text in texts
    for text in ("round", "oval", "correct, p 0.80", "← 0.90", "0.10 →", "Example cells, synthetic"):
        assert text in texts


def test_images_with_names_show_them() -> None:
    images = np.random.default_rng(0).integers(0, 60, (len(ROWS), 28, 28)).astype(np.uint8)
    names = np.array([f"K4, nucleus {100 + i}" for i in range(len(ROWS))], dtype="U80")
    names[3] = "a kidney stack of mouse 3, nucleus 1234"
    rows = most_confident_errors(evaluation_of(ROWS), 0)
    figure = plot_misclassified(rows, images, NAMES, "test", "Example cells, synthetic", image_names=names)
    texts = [artist.get_text() for artist in figure.findobj(Text)]
    assert "K4, nucleus 102" in texts
    assert texts[texts.index("#3") + 1 :][:2] == ["…mouse 3, nucleus", "1234"]


def test_explanations_are_below_their_error() -> None:
    images = np.random.default_rng(0).integers(0, 60, (len(ROWS), 28, 28)).astype(np.uint8)
    rows = most_confident_errors(evaluation_of(ROWS), 0)
    heat = np.zeros((28, 28), dtype=np.float32)
    heat[:14] = 1
    explanation = CellExplanation(heat, "occlusion", (SimilarCell(images[5], 2, 0.875), SimilarCell(images[6], 1, 0.5)))
    figure = plot_misclassified(rows, images, NAMES, "test", "Example cells, synthetic", [explanation] * len(rows))
    drawn_images = [np.asarray(image.get_array()) for image in figure.axes[0].images]
    assert len(drawn_images) == 6 * len(rows)
    assert any(np.array_equal(drawn_image, overlay_heatmap(images[3], heat, 56)) for drawn_image in drawn_images)
    assert any(np.array_equal(drawn_image, to_display(images[5], 56)) for drawn_image in drawn_images)
    texts = [artist.get_text() for artist in figure.findobj(Text)]
    for text in ("prediction", "(occlusion)", "lobed", "similar, 0.88", "similar, 0.50"):
        assert text in texts


def test_a_heat_map_colors_a_cell_only_where_it_is_hot() -> None:
    cell = np.random.default_rng(0).integers(0, 200, (28, 28)).astype(np.uint8)
    heat = np.zeros((28, 28), dtype=np.float32)
    heat[:, :10] = 1
    overlaid, enlarged = overlay_heatmap(cell, heat), to_display(cell)
    assert overlaid.shape == (112, 112, 3)
    assert (overlaid[:, 60:] == enlarged[:, 60:, None]).all()
    warm = overlaid[:, :30].astype(int)
    assert (warm[..., 0] >= warm[..., 2]).all()
    assert (warm[..., 0] - warm[..., 2]).mean() > 50


def test_gray_cells_are_scaled_to_white_and_color_cells_unchanged() -> None:
    gray = np.zeros((28, 28), dtype=np.uint8)
    gray[10:18, 10:18] = 50
    assert to_display(gray).shape == (112, 112)
    assert to_display(gray).max() == 255
    color = np.full((28, 28, 3), 50, dtype=np.uint8)
    assert to_display(color).shape == (112, 112, 3)
    assert (to_display(color) == 50).all()
    assert to_display(np.zeros((28, 28), dtype=np.uint8)).max() == 0
    assert to_display(np.zeros((200, 150), dtype=np.uint8)).shape == (200, 150)


def test_a_data_uri_holds_the_png(evaluation: Callable[..., Evaluation]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (28, 28)).astype(np.uint8)
    prefix, data = png_data_uri(image).split(",")
    assert prefix == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), to_display(image))
