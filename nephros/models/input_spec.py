"""Specification of a network's input and output: channels, image size and classes of the data."""

from __future__ import annotations

from dataclasses import dataclass

from nephros.errors import IncompatibleError


@dataclass(frozen=True)
class InputSpec:
    """Channels (1 or 3), height and width in pixels, and number of classes of the data."""

    channels: int
    height: int
    width: int
    n_classes: int

    def pooled_size(self, n_pools: int) -> tuple[int, int]:
        """Return height and width after `n_pools` halvings; IncompatibleError when nothing would be left."""
        height, width = self.height >> n_pools, self.width >> n_pools
        if min(height, width) < 1:
            raise IncompatibleError(
                f"Images of {self.height}x{self.width} pixels are too small for a network that halves them {n_pools} times: use "
                f"another recipe, or images of at least {2**n_pools}x{2**n_pools} pixels."
            )
        return height, width
