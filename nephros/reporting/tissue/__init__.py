"""The page of classified tissue: a stack's projection with its nuclei, to pan and zoom."""
