"""Statistics of samples: intervals, stopping rule, paired comparison, noise floor, roofline. Both sides; no torch."""
