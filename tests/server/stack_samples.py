"""Stacks and masks as the bytes of files, and requests to /predict/stack with them."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import tifffile

from nephros.microscopy.synthetic import SyntheticStack
from tests.server.live_server import File, LiveServer, form_body

VOXEL_SIZE = (1.0, 0.5, 0.5)
PIXELS, MASK = (np.stack(part) for part in zip(*SyntheticStack((9, 96, 96), VOXEL_SIZE, seed=4).slices(), strict=True))
MASK = MASK.astype(np.uint16)


def encode_tiff(array: Any, **options: Any) -> bytes:
    """Return the bytes of a TIFF file."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def encode_ome(array: Any, axes: str = "ZYX", **metadata: Any) -> bytes:
    """Return the bytes of an OME-TIFF file that states the voxel size."""
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", VOXEL_SIZE, strict=True)}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "ZYX"}
    return encode_tiff(array, ome=True, metadata={"axes": axes, **sizes, **units, **metadata})


STACK: File = ("K4.ome.tif", encode_ome(PIXELS))
MASK_FILE: File = ("K4_mask.tif", encode_tiff(MASK))


def stack_body(stack: File, mask: File | None = None) -> tuple[bytes, str]:
    """Return the body of a request and its content type."""
    return form_body([("stack", stack), *([("mask", mask)] if mask else [])])


def predict_stack(server: LiveServer, stack: File, mask: File | None = None, query: str = "") -> list[dict[str, Any]]:
    """Return the lines of a response of status 200: results, progress, and the last one."""
    body, content_type = stack_body(stack, mask)
    status, headers, text = server.request("POST", f"/predict/stack{query}", body, {"Content-Type": content_type})
    assert (status, headers["content-type"]) == (200, "application/x-ndjson"), text
    return [json.loads(line) for line in text.splitlines()]


def split_lines(lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Return the results, the progress and the last line."""
    *lines, last = lines
    return [line for line in lines if "row" in line], [line for line in lines if "stage" in line], last
