"""The state of the machine: conditions that disturb timings, and telemetry. Used on both sides without torch.

The two sides are the supervisor and the workers.
"""
