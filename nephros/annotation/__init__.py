"""Labeling cells by hand: a project folder with cells, classes and labels, of which every change is kept."""
