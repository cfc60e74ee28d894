"""From a run folder to a file that predicts on its own: packaging, ONNX, safetensors, and the model card."""
