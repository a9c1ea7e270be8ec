"""Measurement of one cell: samples, memory, kernels, peak rates. Worker side: imports torch."""
