"""Compiled kernels of our own, for what torch's operators do slowly in training on a processor."""
