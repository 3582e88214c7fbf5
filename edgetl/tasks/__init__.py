"""What a net is trained to do. One folder per task."""
