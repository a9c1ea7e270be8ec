"""Statistics of samples: intervals, stopping rule, paired comparison, noise floor, roofline. Does not import torch."""
