"""Benchmarks: each prints one table and then one JSON line; README.md says what each measures."""

import nephros  # noqa: F401  (before torch, since it sets how OpenMP threads wait)
