"""From a trained network to ONNX graphs and TensorRT engines; import it as ``pmtool.export``."""
