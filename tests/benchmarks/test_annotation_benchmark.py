"""The benchmark of labeling: the simulated annotator on data whose result is known, and a quick run of both parts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.annotator import RULES, label_counts, labels_needed, simulate
from tests.benchmarks.test_benchmarks import RECORD_KEYS, run_benchmark


def test_label_counts() -> None:
    counts = label_counts(2000)
    assert counts[0] == 5
    assert counts[-1] == 2000
    assert counts == sorted(set(counts))
    assert {20, 50, 100, 200, 500} <= set(counts)


def test_labels_needed() -> None:
    assert labels_needed([0.2, 0.6, 0.5, 0.7], [5, 10, 15, 20], 0.6) == 10
    assert labels_needed([0.2, 0.6], [5, 10], 0.7) is None


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_learns_separate_classes(rule: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    features = (6 * np.eye(3, 8)[truth] + rng.normal(size=(600, 8))).astype(np.float32)
    held_out = features[400:], truth[400:]
    first = simulate(rule, features[:400], truth[:400], held_out, [5, 20, 40], seed=1)
    assert first[-1] > 0.95
    assert first == simulate(rule, features[:400], truth[:400], held_out, [5, 20, 40], seed=1)


@pytest.mark.slow
def test_a_quick_run_prints_a_record_and_writes_tables(tmp_path: Path) -> None:
    result = run_benchmark("annotation", "--quick", "--data", "synthetic", "--tables", str(tmp_path))
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout.splitlines()[-1])
    assert record.keys() >= RECORD_KEYS
    in_library, over_http, *annotator = record["rows"]
    for latency in (in_library, over_http):
        assert (latency["cells"], latency["labels"]) == (600, 40)
        assert 0 < latency["p50_ms"] <= latency["p95_ms"] <= latency["max_ms"]
    assert 0 < in_library["cpu_p50_ms"] <= in_library["cpu_p95_ms"]
    assert 0 <= over_http["outdated"] <= 5
    assert [row["rule"] for row in annotator] == [*RULES, *RULES]
    with (tmp_path / "annotation.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * len(RULES)
    assert (tmp_path / "annotation.png").stat().st_size > 1000
