"""Tracking: runs, the model registry and promotion. The only room that imports mlflow."""
