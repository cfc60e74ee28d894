"""Fuzzing of everything that reads files from outside: `make fuzz`, or `python -m tests.fuzz TARGET --seconds 60`."""
