"""Benchmarks: each prints one table and then one JSON line; README.md says what each measures."""

from nephros.environment import set_process_defaults

set_process_defaults()  # before torch is imported, since that sets how OpenMP threads wait
