"""Measurement of one cell (samples, memory, kernels) and of peak rates. Runs in workers and imports torch."""
