"""Train the sync scorer that judges generated video."""
