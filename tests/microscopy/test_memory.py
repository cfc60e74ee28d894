"""A large stack needs little memory: the command in a process of its own, which reports its own peak."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stack_memory import measure

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("with_mask", [True, False])
def test_half_a_gigabyte_needs_less_than_its_own_size(with_mask: bool, tmp_path: Path) -> None:
    row = measure(40, with_mask, tmp_path)
    assert row["stack_mb"] > 500
    assert row["nuclei"] == pytest.approx(row["nuclei_made"], rel=0.03)
    assert row["peak_mb"] < 500
