"""Data sets: photos found and hashed, known data sets by name, the split. edgetl.tasks.photos decodes and checks photos."""
