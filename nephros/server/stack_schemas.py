"""Requests and responses of /predict/stack as pydantic models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from nephros.inference.nucleus_columns import POSITION_COLUMNS
from nephros.server.schemas import ResultParams, StreamCompleted, StreamedResult, index_or_name

Segmenter = Literal["rough", "cellpose", "stardist"]
SEGMENT_DESCRIPTION = (
    "How to find the nuclei of a stack without a mask: one of the segmenters that /version lists; by default rough."
)
_NUMBER = r"[0-9]{1,6}(?:\.[0-9]{1,9})?"
NO_POSITION: dict[str, Any] = dict.fromkeys(("id", *POSITION_COLUMNS))
"""Fields of a row that is not a nucleus."""


class StackParams(ResultParams):
    """Query parameters of /predict/stack."""

    channel: str | None = Field(
        None, min_length=1, max_length=200, description="Number, from 0, or name of the channel that shows the nuclei."
    )
    image: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Number, from 0, or name of the image, in a file that holds several.",
    )
    axes: str | None = Field(
        None,
        pattern="^[A-Za-z]{2,8}$",
        description="Order of the dimensions, such as ZYX for slices saved as channels.",
    )
    time_point: int | None = Field(None, ge=0, le=2**31, description="Number of the time point, from 0.")
    voxel_size: str | None = Field(
        None,
        pattern=f"^{_NUMBER},{_NUMBER},{_NUMBER}$",
        description="Micrometers along z, y and x, such as 1,0.5,0.5; required if the file does not state them.",
    )
    min_volume: float | None = Field(
        None, gt=0, le=1e9, description="Leave out nuclei smaller than this, in cubic micrometers."
    )
    stitch_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Overlap from which objects of the mask's slices are joined, where ids count per slice.",
    )
    segment: Segmenter | None = Field(None, description=SEGMENT_DESCRIPTION)

    def stack_options(self, mask: Path | None) -> dict[str, Any]:
        """Return the fields of `StackOptions`; whether they fit the stack is found out where it is read."""
        return {
            "channel": index_or_name(self.channel),
            "image": index_or_name(self.image),
            "voxel_size": None if self.voxel_size is None else [float(side) for side in self.voxel_size.split(",")],
            "axes": self.axes,
            "min_volume": self.min_volume,
            "mask": None if mask is None else str(mask),
            "time_point": self.time_point,
            "stitch_threshold": self.stitch_threshold,
            "segment": self.segment,
        }


class StackResult(StreamedResult):
    """A line of /predict/stack: the prediction for a nucleus and its place; null where the stack has an error instead."""

    id: int | None = Field(description="Number of the nucleus in the mask, from 1.")
    z: float | None = Field(description="Centroid in voxels.")
    y: float | None
    x: float | None
    z_um: float | None = Field(description="Centroid in micrometers; null where the voxel size is unknown.")
    y_um: float | None
    x_um: float | None
    volume_voxels: int | None
    volume_um3: float | None
    at_border: bool | None = Field(description="Whether the stack's edge cuts the nucleus or its crop.")
    intensity_mean: float | None


class StackProgress(BaseModel):
    """A line of /predict/stack on how far reading the stack is."""

    stage: str = Field(description="What is done now, such as Segmenting nuclei.")
    share: float = Field(description="How much of the stage is done, from 0 to 1.")


class StackCompleted(StreamCompleted):
    """The last line of /predict/stack when all rows have been sent."""

    done: Literal[True]
    notes: list[str] = Field(description="How the nuclei were found and their images made, one sentence each.")
