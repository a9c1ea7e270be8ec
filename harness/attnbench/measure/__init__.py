"""Clocks, samplers, memory and telemetry: raw samples out."""
