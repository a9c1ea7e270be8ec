"""Measure cells (samples, memory, kernels) and peak rates. This package runs in workers and imports torch."""
