"""Triton kernels for one Hopper GPU."""
