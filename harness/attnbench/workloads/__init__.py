"""Workloads and suites: one attention problem, its mask, its id, and named lists of problems. Both sides; no torch."""
