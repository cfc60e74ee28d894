"""Explanations of predictions: saliency maps and similar training cells."""
