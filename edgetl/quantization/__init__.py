"""Quantization: a folded graph, ranges, fake quantization for training, and the integers that every format ships."""
