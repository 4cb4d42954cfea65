"""Train the sync scorers: the curator on the clips of stage one's split, the judge on a split of its own."""
