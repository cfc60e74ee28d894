"""A trained network, as another training starts from it."""

from __future__ import annotations

from dataclasses import dataclass

from nephros.models.classifier import Classifier, InputSpec
from nephros.recipe import ModelConfig


@dataclass(frozen=True)
class PretrainedModel:
    """Weights to start from, with what they were trained as; `nephros.exporters.pretrained` opens them."""

    classifier: Classifier
    """On the CPU and in evaluation mode."""
    model: ModelConfig
    input_spec: InputSpec
    """Channels, size and classes that the network was built for."""
    class_names: tuple[str, ...]
    source: str
    """``bundled``, or the absolute path of the run folder or file."""
    recipe: str
    """Name of the recipe that trained it; empty for a bare weights file."""
    sha256: str
    """Digest of the file that holds the weights."""
    is_folded: bool
    """Whether batch normalization is folded into its filters, so that its statistics must be measured anew."""
