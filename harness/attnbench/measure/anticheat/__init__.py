"""Detect variants that manipulate or observe their measurement. This package runs in workers and imports torch."""
