"""Peak memory of preparing a large stack, measured in a separate process."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stack_memory import measure_sparse_zarr, measure_tiff

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("with_mask", [True, False])
def test_preparing_half_a_gigabyte_needs_less_memory_than_that(with_mask: bool, tmp_path: Path) -> None:
    row = measure_tiff(40, with_mask, tmp_path)
    assert row["stack_mb"] > 500
    assert row["nuclei"] == pytest.approx(row["nuclei_simulated"], rel=0.03)
    assert row["peak_mb"] < 500


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_preparing_a_sparse_store_needs_less_memory_than_its_size(tmp_path: Path) -> None:
    row = measure_sparse_zarr(192, tmp_path)
    assert row["stack_mb"] > 1500
    assert row["nuclei"] == row["nuclei_simulated"]
    assert row["peak_mb"] < row["stack_mb"]  # whose mask is twice as large
