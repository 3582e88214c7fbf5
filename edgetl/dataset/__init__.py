"""Photos: found, checked, split, decoded, batched. See README.md of the package for the map."""
