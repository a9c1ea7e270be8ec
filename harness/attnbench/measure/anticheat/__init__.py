"""Detection of variants that cheat by manipulating or observing their measurement. Runs in workers, imports torch."""
