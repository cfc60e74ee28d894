"""Data sets and arrays in npz files."""
