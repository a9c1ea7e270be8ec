"""Statistics of timing samples: intervals, stopping, comparison, noise floor. This package runs on both sides.

The two sides are the supervisor and the workers.
"""
