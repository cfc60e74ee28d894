"""The benchmark of the annotation page runs in a browser and prints its record; speed itself is not tested."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.test_benchmarks import RECORD_KEYS, run_benchmark
from tests.ui.conftest import CHROMIUM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


def test_a_quick_run_prints_a_record() -> None:
    result = run_benchmark("annotation_page", "--quick", "--data", "synthetic")
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout.splitlines()[-1])
    assert record.keys() >= RECORD_KEYS
    *scrolling, labeling, labeling_all = record["rows"]
    assert [row["cells"] for row in record["rows"]] == [800] * 5
    for row in scrolling:
        assert 0 < row["frame_p50_ms"] <= row["frame_p95_ms"] <= row["frame_max_ms"]
        assert row["frames_per_s"] > 0
    assert labeling["keys"] == 6
    assert 0 < labeling_all["shown_s"] <= labeling_all["saved_s"]
    for row in record["rows"]:
        assert row["tasks_over_50_ms"] >= row["tasks_over_100_ms"] >= 0
