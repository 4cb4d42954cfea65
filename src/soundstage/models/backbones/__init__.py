"""Video backbones: one file a family, all through diffusers' own classes."""
