"""Detection of variants that cheat by manipulating or observing their measurement.

This package runs in workers and imports torch.
"""
