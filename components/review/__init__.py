"""The step `review`."""
