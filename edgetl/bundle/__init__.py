"""A bundle that `edgetl build` wrote, read back and checked against its own digests."""
