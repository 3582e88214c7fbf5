"""`edgetl verify`."""
