"""The tuners that benchmarks/tuning.py compares, each a script of its own: python -m benchmarks.tuners.NAME TERMS.json"""
