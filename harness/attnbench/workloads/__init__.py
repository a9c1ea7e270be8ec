"""Workloads (attention problems) and suites (lists of workloads). This package runs on both sides, without torch.

The two sides are the supervisor and the workers.
"""
