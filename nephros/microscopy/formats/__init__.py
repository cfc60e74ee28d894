"""Files of microscopes' own software, each read by the library that knows the format."""
