"""The state of the machine: conditions that distort timings, and telemetry for each block. Does not import torch."""
