"""Workloads (attention problems) and suites (named lists of workloads). This package does not import torch."""
