"""Frozen backbones, audio features, windowed adapters, and sampling. Knows nothing of training.

Direction of time, here and everywhere: `sigma` is the share of noise, `noisy = (1 - sigma) * clean + sigma * noise`,
and `velocity = noise - clean` (the convention of diffusers' flow matching; papers often run it backwards).
"""
