"""Model files read into a census, and what follows from it."""
