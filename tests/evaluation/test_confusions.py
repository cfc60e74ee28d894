"""The worst confusions of a matrix, and the classes never predicted."""

from __future__ import annotations

from nephros.evaluation.confusions import Confusion, never_predicted, worst_confusions


def test_the_worst_confusions_are_ordered_by_a_share_that_small_classes_must_earn() -> None:
    matrix = [[900, 100, 0], [1500, 500, 0], [2, 0, 1]]
    # 75% of 2,000 and 67% of 3: the lower ends of their intervals are 73% and 21%.
    assert worst_confusions(matrix) == [Confusion(1, 0, 1500, 2000), Confusion(2, 0, 2, 3), Confusion(0, 1, 100, 1000)]
    assert worst_confusions(matrix, limit=1)[0].share == 0.75


def test_a_matrix_without_errors_or_without_cells_has_no_confusions() -> None:
    assert worst_confusions([[3, 0], [0, 4]]) == []
    assert worst_confusions([[0, 0], [1, 4]]) == [Confusion(1, 0, 1, 5)]


def test_classes_never_predicted_are_named_in_label_order() -> None:
    assert never_predicted([[5, 0, 0], [2, 0, 0], [0, 0, 1]]) == [1]
    assert never_predicted([[1, 1], [1, 1]]) == []
