"""Functions that read what came from outside, run in processes that can be killed."""
