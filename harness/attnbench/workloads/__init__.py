"""Workloads (attention problems) and suites (lists of workloads), used on both sides without importing torch.

The two sides are the supervisor and the workers.
"""
