"""What `nephros data prepare` says on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nephros.console import table_console
from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD


def print_prepared(metadata: dict[str, Any], paths: Sequence[Path]) -> None:
    """Print what FILE.json holds in a few lines, its warnings, and the files' paths."""
    console = table_console()
    counts, contrast = metadata["nuclei"], metadata["contrast_limits"]
    dropped_text = f", {counts['dropped']:,} left out" if counts["dropped"] else ""
    console.print(
        f"nuclei: {counts['kept']:,} ({counts['at_border']:,} of {counts['segmented']:,} at the border{dropped_text})"
    )
    console.print(f"voxel size: {_voxel_size_text(metadata['voxel_size_um'])} ({metadata['voxel_size_source']})")
    if metadata["target_voxel_size_um"] is None:
        console.print("resampled: no, the stack's voxels are taken as they are")
    else:
        step = " x ".join(f"{ratio:.3g}" for ratio in metadata["resampling_step"])
        console.print(
            f"resampled to: {_voxel_size_text(metadata['target_voxel_size_um'])}, {step} of the stack's voxels each "
            f"({metadata['target_voxel_size_source']})"
        )
    console.print(
        f"8 bits: {contrast['black_level']:,.6g} becomes 0 (percentile {contrast['black_percentile']:.4g} of the stack's pixels) "
        f"and {contrast['white_level']:,.6g} becomes 255 (percentile {contrast['white_percentile']:.5g})"
    )
    console.print(f"rule: {contrast['rule']}")
    console.print(
        f"reached: mean {contrast['pixel_mean']:.3f}, std {contrast['pixel_std']:.3f} "
        f"(TissueMNIST: {PIXEL_MEAN:.3f} and {PIXEL_STD:.3f})"
    )
    if metadata["class_labels"]:
        class_labels = metadata["class_labels"]
        console.print(
            f"classes: {', '.join(class_labels['class_names'])}; split 7:1:2 with seed {class_labels['seed']}"
        )
    for warning in metadata["warnings"]:
        console.print(f"warning: {warning}")
    for path in paths:
        console.print(str(path))


def _voxel_size_text(sizes: Sequence[float] | None) -> str:
    return "unknown" if sizes is None else " x ".join(f"{side:.4g}" for side in sizes) + " micrometres (z, y, x)"
