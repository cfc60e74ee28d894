"""What `nephros data prepare` says on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nephros.console import table_console
from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD


def show(about: dict[str, Any], paths: Sequence[Path]) -> None:
    """Print what FILE.json holds in a few lines, its warnings, and the files' paths."""
    console = table_console()
    counts, light = about["nuclei"], about["brightness"]
    left_out = f", {counts['dropped']:,} left out" if counts["dropped"] else ""
    console.print(f"nuclei: {counts['kept']:,} ({counts['border']:,} of {counts['marked']:,} at the border{left_out})")
    console.print(f"voxel size: {_sizes(about['voxel_size_um'])} ({about['voxel_size_from']})")
    if about["training_voxel_size_um"] is None:
        console.print("resampled: no, the stack's voxels are taken as they are")
    else:
        step = " x ".join(f"{ratio:.3g}" for ratio in about["stack_voxels_a_training_voxel"])
        console.print(
            f"resampled to: {_sizes(about['training_voxel_size_um'])}, {step} of the stack's voxels each "
            f"({about['training_voxel_size_from']})"
        )
    console.print(
        f"8 bits: {light['black']:,.6g} becomes 0 (percentile {light['black_percentile']:.4g} of the stack's pixels) and "
        f"{light['white']:,.6g} becomes 255 (percentile {light['white_percentile']:.5g})"
    )
    console.print(f"rule: {light['rule']}")
    console.print(
        f"reached: mean {light['pixel_mean']:.3f}, std {light['pixel_std']:.3f} "
        f"(TissueMNIST: {PIXEL_MEAN:.3f} and {PIXEL_STD:.3f})"
    )
    if about["classes"]:
        console.print(
            f"classes: {', '.join(about['classes']['names'])}; split 7:1:2 with seed {about['classes']['seed']}"
        )
    for warning in about["warnings"]:
        console.print(f"warning: {warning}")
    for path in paths:
        console.print(str(path))


def _sizes(sizes: Sequence[float] | None) -> str:
    return "unknown" if sizes is None else " x ".join(f"{side:.4g}" for side in sizes) + " micrometres (z, y, x)"
