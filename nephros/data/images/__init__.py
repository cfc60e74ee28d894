"""From a file's bytes to an image, and from an image to a cell."""
