"""The step `pretrain`."""
