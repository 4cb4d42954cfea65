"""The step `encode`."""
