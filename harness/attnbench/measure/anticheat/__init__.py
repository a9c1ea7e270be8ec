"""Detection of variants that change or observe the measurement in place of computing. Worker side: imports torch."""
