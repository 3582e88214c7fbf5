"""Measuring: statistics in plain Python, and loops over any Session."""
