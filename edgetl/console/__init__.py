"""What commands share on a terminal: options, output, progress, the table of checks."""
