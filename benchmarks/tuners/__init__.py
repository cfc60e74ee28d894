"""The tuners that benchmarks/tuning.py compares, each a script: python -m benchmarks.tuners.NAME CONFIG.json"""
