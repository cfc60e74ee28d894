"""What a network must fit: the data's channels, size and classes."""

from __future__ import annotations

from dataclasses import dataclass

from nephros.errors import UserError


@dataclass(frozen=True)
class Shape:
    """Channels (1 or 3), height and width in pixels, and number of classes."""

    channels: int
    height: int
    width: int
    classes: int

    def after_pools(self, pools: int) -> tuple[int, int]:
        """Return height and width after so many 2x2 poolings; UserError when nothing would be left."""
        height, width = self.height >> pools, self.width >> pools
        if min(height, width) < 1:
            raise UserError(
                f"Images of {self.height}x{self.width} pixels are too small for this network, which halves them {pools} times: "
                f"choose another recipe or images of at least {2**pools}x{2**pools}."
            )
        return height, width
