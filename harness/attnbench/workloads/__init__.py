"""Workloads and suites: attention problems, their masks and ids, and named lists of them. Both sides; no torch."""
