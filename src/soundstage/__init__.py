"""Soundstage: a training platform for audio-synchronized visual animation."""

__version__ = "0.1.0"
