"""Machine state: conditions that disturb timings, and telemetry. This package runs on both sides, without torch.

The two sides are the supervisor and the workers.
"""
