"""`edgetl inspect`."""
