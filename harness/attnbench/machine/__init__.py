"""The state of the machine: what disturbs timings, and telemetry of each block. Both sides; no torch."""
