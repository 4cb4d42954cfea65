"""Launchers: who starts the processes of a training job, and stops them."""
