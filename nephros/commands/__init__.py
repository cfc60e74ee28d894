"""What each command parses and calls."""
