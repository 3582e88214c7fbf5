"""Model files: written from the graph's integers, checked, named, described. One module per format and direction."""
