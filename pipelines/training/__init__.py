"""The training pipeline: raw videos with sound to a promoted model."""
