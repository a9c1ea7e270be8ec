"""Workloads (attention problems with masks and ids) and suites (named lists of workloads). Imports no torch."""
