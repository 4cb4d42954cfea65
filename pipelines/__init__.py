"""Pipelines: they wire components, run them on a laptop or compile them for a cluster, and decide nothing else."""
