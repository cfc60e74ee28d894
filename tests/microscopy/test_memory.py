"""Peak memory of preparing a large stack, measured in a separate process."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stack_memory import measure

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("with_mask", [True, False])
def test_preparing_half_a_gigabyte_needs_less_memory_than_that(with_mask: bool, tmp_path: Path) -> None:
    row = measure(40, with_mask, tmp_path)
    assert row["stack_mb"] > 500
    assert row["nuclei"] == pytest.approx(row["nuclei_simulated"], rel=0.03)
    assert row["peak_mb"] < 500
