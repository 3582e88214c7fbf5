"""Classifying photos: decoding, preprocessing, batches, and the mistakes apps make with them."""
