"""Training: one objective, one feed, one trainer for the stand-in and both stages, processes and their launcher."""
