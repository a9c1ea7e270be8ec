"""Statistics: intervals, stopping rule, paired comparison, noise floor and roofline.

This package does not import torch.
"""
