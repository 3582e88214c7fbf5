"""What a check is, how it is judged, and the words for each metric."""
