"""What a model can't be trusted with, as its card and the server's page say it."""

from __future__ import annotations

from nephros.evaluation.calibration import UNCALIBRATED
from nephros.evaluation.largest_class import no_better_than_largest_class
from nephros.evaluation.metrics import Metrics
from nephros.runs import RunInfo

_GENERAL = [
    "For research only, not for diagnosis or any decision about a patient.",
    "Trained on cells from one laboratory's specimens, stain and microscope: with other tissue, stains or microscopes the "
    "figures here do not hold, and `is_ood` detects only some of what differs.",
    "An image must show one nucleus, cropped and scaled as the training cells were.",
    "Prediction sets contain the true class with the chosen frequency over all cells together, not within each class.",
]


def limitations(info: RunInfo, validation: Metrics, temperature: float) -> list[str]:
    """Return the limitations of a run's model, a sentence each: first what was measured of it, then those of every model."""
    uncalibrated = "The probabilities are uncalibrated: the temperature that fits best lies at the bound of its search."
    return [
        *([sentence] if (sentence := no_better_than_largest_class(info, validation)) else []),
        *([uncalibrated] if temperature == UNCALIBRATED else []),
        *_GENERAL,
    ]
