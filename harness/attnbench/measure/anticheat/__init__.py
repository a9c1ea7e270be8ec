"""Detection of variants that manipulate or observe the measurement instead of computing. Worker side: imports torch."""
