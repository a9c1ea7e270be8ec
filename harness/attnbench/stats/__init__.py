"""Statistics of samples: intervals, stopping, comparison, noise floor. Runs on both sides, without torch."""
