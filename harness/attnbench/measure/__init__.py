"""Measurement of one cell (samples, memory, kernels) and of peak rates.

This package runs in workers and imports torch.
"""
