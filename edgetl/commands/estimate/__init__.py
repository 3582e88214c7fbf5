"""`edgetl estimate`."""
