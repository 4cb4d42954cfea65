"""Train the sync scorer that curates."""
