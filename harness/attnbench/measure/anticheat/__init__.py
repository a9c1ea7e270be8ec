"""Detection of variants that manipulate or observe their measurement. Runs in workers and imports torch."""
