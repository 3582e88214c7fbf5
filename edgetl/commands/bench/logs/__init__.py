"""What other tools printed, as rows of `edgetl bench`."""
