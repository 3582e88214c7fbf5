"""Model files written: TFLite and ONNX."""
