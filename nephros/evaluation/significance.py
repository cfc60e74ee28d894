"""How certain figures are: 95% confidence intervals, and paired tests of two models on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.metrics import Z95

_BOOTSTRAP_RESAMPLES = 2000


def macro_auc_interval(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[int]
) -> tuple[float, float] | None:
    """Return the 95% interval of the mean one-vs-rest AUC over some classes.

    It is None where fewer than two cells are of a class, or of all others. Else it is the mean plus and minus 1.96 standard
    errors. They are those of DeLong et al., Biometrics 44, 1988, extended to the mean: a cell's influence on the mean is the
    mean of its influences on each class's AUC. Variances have n - 1 in their denominators, so that a single cell has none.

    Args:
        probabilities: (n, classes), each row the probabilities of one cell.
        labels: (n,).
        classes: indices of the classes to average over.
    """
    influence, aucs = np.zeros(len(labels)), []
    for c in classes:
        positive = labels == c
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        if min(n_positive, n_negative) < 2:
            return None
        positive_scores, negative_scores = probabilities[positive, c], probabilities[~positive, c]
        ranks = _fraction_below(positive_scores, negative_scores)
        ranks_of_others = 1 - _fraction_below(negative_scores, positive_scores)
        aucs.append(float(ranks.mean()))
        influence[positive] += (ranks - aucs[-1]) / math.sqrt(n_positive * (n_positive - 1))
        influence[~positive] += (ranks_of_others - aucs[-1]) / math.sqrt(n_negative * (n_negative - 1))
    if not aucs:
        return None
    mean_auc, standard_error = float(np.mean(aucs)), math.sqrt(float((influence**2).sum())) / len(aucs)
    return max(0.0, mean_auc - Z95 * standard_error), min(1.0, mean_auc + Z95 * standard_error)


def _fraction_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each of `values` the share of `others` below it; ties count half."""
    sorted_others = np.sort(others)
    return (np.searchsorted(sorted_others, values, "left") + np.searchsorted(sorted_others, values, "right")) / (
        2 * len(others)
    )


def macro_f1_interval(matrix: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95% percentile-bootstrap interval of macro F1 over the classes that the matrix's rows hold.

    Macro F1 depends on the (classes, classes) confusion matrix alone, so resampling cells is resampling its counts:
    2,000 multinomial draws with a fixed seed. A draw's mean is over the classes of which it has cells, as macro F1 is.
    """
    n, n_classes = int(matrix.sum()), len(matrix)
    probabilities = matrix.reshape(-1) / n
    resampled = (
        np.random.default_rng(0)
        .multinomial(n, probabilities, size=_BOOTSTRAP_RESAMPLES)
        .reshape(_BOOTSTRAP_RESAMPLES, n_classes, n_classes)
    )
    true_positives = resampled.diagonal(axis1=1, axis2=2)
    denominator = resampled.sum(axis=1) + resampled.sum(axis=2)
    f1, drawn = 2 * true_positives / np.maximum(denominator, 1), resampled.sum(axis=2) > 0
    low, high = np.quantile((f1 * drawn).sum(axis=1) / drawn.sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


BOOTSTRAP_RESAMPLES = 10_000


@dataclass(frozen=True)
class PairedComparison:
    """How the first of two models compares with the second on the same n images."""

    n: int
    n_first_only: int
    """Images that only the first classified correctly."""
    n_second_only: int
    """Images that only the second classified correctly."""
    p_value: float
    """Two-sided p of McNemar's exact test, under the hypothesis that both are equally accurate."""
    low: float
    high: float
    """95% interval of the difference in accuracy, by paired bootstrap."""
    p_holm: float
    """p corrected for the number of pairs tested together (Holm); for a single pair p itself."""

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second."""
        return (self.n_first_only - self.n_second_only) / self.n


def compare_paired(first_correct: NDArray[np.bool_], second_correct: NDArray[np.bool_]) -> PairedComparison:
    """Return how two models compare, from which of the same images each classified correctly, (n,) bool both.

    McNemar's test in its exact form is the binomial test on the images that only one model classified correctly (McNemar,
    Psychometrika 12, 1947). The bootstrap resamples images 10,000 times with a fixed seed. The difference depends only on
    how many images each model alone classified correctly, so resampling images is resampling those two counts.
    """
    from scipy.stats import binomtest

    n = len(first_correct)
    n_first_only = int((first_correct & ~second_correct).sum())
    n_second_only = int((second_correct & ~first_correct).sum())
    n_discordant = n_first_only + n_second_only
    p_value = float(binomtest(n_first_only, n_discordant).pvalue) if n_discordant else 1.0
    shares = [n_first_only / n, n_second_only / n, (n - n_discordant) / n]
    resampled = np.random.default_rng(0).multinomial(n, shares, size=BOOTSTRAP_RESAMPLES)
    low, high = np.quantile((resampled[:, 0] - resampled[:, 1]) / n, [0.025, 0.975])
    return PairedComparison(n, n_first_only, n_second_only, p_value, float(low), float(high), p_value)


def holm(comparisons: Sequence[PairedComparison]) -> list[PairedComparison]:
    """Return the comparisons, in their order, with p adjusted for multiple testing (Holm, Scand. J. Statistics 6, 1979)."""
    adjusted, running_max = list(comparisons), 0.0
    for rank, index in enumerate(sorted(range(len(comparisons)), key=lambda index: comparisons[index].p_value)):
        running_max = min(1.0, max(running_max, (len(comparisons) - rank) * comparisons[index].p_value))
        adjusted[index] = replace(comparisons[index], p_holm=running_max)
    return adjusted
