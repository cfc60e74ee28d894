"""Out-of-distribution detection: cell by cell against the training cells, and file by file against the training data."""
