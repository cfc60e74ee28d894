"""Benchmarks: each prints one table and then one JSON line; README.md says what each measures."""

import os

from nephros.environment import set_process_defaults

set_process_defaults()  # before torch is imported, since that sets how OpenMP threads wait
# The processes that are timed have compiled modules, as where pip installs them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
