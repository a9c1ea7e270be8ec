"""The state of the machine: conditions that disturb timings, and telemetry of each block. Does not import torch."""
