"""What a network must fit: the data's channels, size and classes."""

from __future__ import annotations

from dataclasses import dataclass

from nephros.errors import NephrosError


@dataclass(frozen=True)
class InputSpec:
    """Channels (1 or 3), height and width in pixels, and number of classes."""

    channels: int
    height: int
    width: int
    n_classes: int

    def pooled_size(self, n_pools: int) -> tuple[int, int]:
        """Return height and width after so many 2x2 poolings; UserError when nothing would be left."""
        height, width = self.height >> n_pools, self.width >> n_pools
        if min(height, width) < 1:
            raise NephrosError(
                f"Images of {self.height}x{self.width} pixels are too small for this network, which halves them {n_pools} times: "
                f"choose another recipe or images of at least {2**n_pools}x{2**n_pools}."
            )
        return height, width
