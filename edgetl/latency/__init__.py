"""Latency without the device: published figures, a model of them, intervals, rooflines."""
