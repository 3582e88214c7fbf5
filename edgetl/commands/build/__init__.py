"""`edgetl build`, `edgetl plan` and `edgetl init`."""
