"""Model files: written from the graph's integers, checked, named, described. One file a format and direction."""
