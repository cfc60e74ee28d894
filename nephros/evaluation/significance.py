"""How certain figures are: 95% confidence intervals, and paired tests of two models on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.intervals import Z95

_POSTERIOR_DRAWS = 2000


def macro_auc_interval(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[int]
) -> tuple[float, float] | None:
    """Return the 95% interval of the mean one-vs-rest AUC over some classes.

    It is None where fewer than two cells are of a class, or of all others. Standard errors are those of DeLong et al.,
    Biometrics 44, 1988, extended to the mean: a cell's influence on the mean is the mean of its influences on each class's
    AUC. Variances have n - 1 in their denominators, so that a single cell has none. The interval is symmetric on the logit
    scale, which holds best near 1 (Qin and Hotilovac, Statistical Methods in Medical Research 17, 2008). Half a cell more, better
    than half of the others and shared by the classes, keeps a width where every cell is ranked right.

    Args:
        probabilities: (n, classes), each row the probabilities of one cell.
        labels: (n,).
        classes: indices of the classes to average over.
    """
    if probabilities.shape[1] == 2:  # both have the same AUC, so that the second one's is the mean, as in the metrics
        classes = classes[-1:]
    influence, aucs, centers, variance = np.zeros(len(labels)), [], [], 0.0
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
        n_smaller, share = min(n_positive, n_negative), 0.5 / len(classes)  # of that cell
        centers.append((n_smaller * aucs[-1] + share / 2) / (n_smaller + share))
        variance += share / (2 * (n_smaller + share)) ** 2
    if not aucs:
        return None
    auc, center = float(np.mean(aucs)), float(np.mean(centers))
    standard_error = math.sqrt(float((influence**2).sum()) + variance) / len(aucs)
    log_odds, half_width = math.log(center / (1 - center)), Z95 * standard_error / (center * (1 - center))
    low, high = (1 / (1 + math.exp(-(log_odds + sign * half_width))) for sign in (-1, 1))
    return min(low, auc), max(high, auc)


def _fraction_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each of `values` the share of `others` below it; ties count half."""
    sorted_others = np.sort(others)
    return (np.searchsorted(sorted_others, values, "left") + np.searchsorted(sorted_others, values, "right")) / (
        2 * len(others)
    )


def macro_f1_interval(matrix: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95% interval of macro F1 over the classes that the matrix's rows hold.

    Macro F1 depends on the (classes, classes) confusion matrix alone, whose shares are drawn 2,000 times, with a fixed seed,
    from their posterior (Goutte and Gaussier, ECIR 2005). It is a Dirichlet distribution of the counts and, as a prior, of two
    cells that are right and half a cell that is wrong, spread evenly over the matrix. So the interval of a model that makes no
    error has a width; resampling its cells would give none. With these two numbers it held the truth in 90 to 99% of draws of
    20 to 200 cells of two to eight classes.
    """
    n_classes, present = len(matrix), matrix.sum(axis=1) > 0
    prior = np.full((n_classes, n_classes), 0.5 / (n_classes - 1))
    np.fill_diagonal(prior, 2)
    prior[~present] = 0
    prior /= present.sum()
    # Gamma variates are Dirichlet ones but for a factor, which F1 does not depend on.
    alpha = matrix + prior
    drawn = np.random.default_rng(0).standard_gamma(alpha, size=(_POSTERIOR_DRAWS, n_classes, n_classes))
    low, high = np.quantile(_macro_f1(drawn, present), [0.025, 0.975])
    estimate = float(_macro_f1(matrix[None].astype(np.float64), present)[0])
    return min(float(low), estimate), max(float(high), estimate)


def _macro_f1(matrices: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean F1 of the classes that are `present`, (n,), of (n, classes, classes) confusion matrices."""
    true_positives = matrices.diagonal(axis1=1, axis2=2)
    f1 = 2 * true_positives / np.maximum(matrices.sum(axis=1) + matrices.sum(axis=2), 1e-300)
    means: NDArray[np.float64] = f1[:, present].mean(axis=1)
    return means


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
    how many images each model alone classified correctly, so resampling images is resampling those two counts. One image more
    of each kind is resampled (Bonett and Price, Journal of Educational and Behavioral Statistics 37, 2012): two models that
    agree on twenty images may well differ on others.
    """
    from scipy.stats import binomtest

    n = len(first_correct)
    n_first_only = int((first_correct & ~second_correct).sum())
    n_second_only = int((second_correct & ~first_correct).sum())
    n_discordant = n_first_only + n_second_only
    p_value = float(binomtest(n_first_only, n_discordant).pvalue) if n_discordant else 1.0
    shares = [(n_first_only + 1) / (n + 2), (n_second_only + 1) / (n + 2), (n - n_discordant) / (n + 2)]
    resampled = np.random.default_rng(0).multinomial(n + 2, shares, size=BOOTSTRAP_RESAMPLES)
    low, high = np.quantile((resampled[:, 0] - resampled[:, 1]) / (n + 2), [0.025, 0.975])
    return PairedComparison(n, n_first_only, n_second_only, p_value, float(low), float(high), p_value)


def holm(comparisons: Sequence[PairedComparison]) -> list[PairedComparison]:
    """Return the comparisons, in their order, with p adjusted for multiple testing (Holm, Scand. J. Statistics 6, 1979)."""
    adjusted, running_max = list(comparisons), 0.0
    for rank, index in enumerate(sorted(range(len(comparisons)), key=lambda index: comparisons[index].p_value)):
        running_max = min(1.0, max(running_max, (len(comparisons) - rank) * comparisons[index].p_value))
        adjusted[index] = replace(comparisons[index], p_holm=running_max)
    return adjusted
