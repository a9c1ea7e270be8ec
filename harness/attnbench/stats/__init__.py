"""Statistics of samples: intervals, stopping, paired comparison, noise floor, roofline. Both sides; no torch."""
