"""The step `register`."""
