"""Statistics of timing samples: intervals, stopping, comparison, noise floor. It runs on both sides, without torch.

The two sides are the supervisor and the workers.
"""
