"""Writers of model files: TFLite and ONNX."""
