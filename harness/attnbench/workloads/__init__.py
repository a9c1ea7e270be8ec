"""Workloads (attention problems) and suites (named lists of workloads). Runs on both sides, without torch.

The two sides are the supervisor and the workers.
"""
