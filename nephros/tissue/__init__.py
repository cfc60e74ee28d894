"""Predictions back on the tissue: a table, outlines and masks of a stack's classified nuclei, for other programs to open."""
