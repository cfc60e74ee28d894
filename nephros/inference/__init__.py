"""Prediction with an exported model, by ONNX Runtime and NumPy: nothing in this package imports torch."""
