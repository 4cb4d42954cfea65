"""The step `backbone`."""
