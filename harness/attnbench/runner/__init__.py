"""Plan and execute runs: requests, scheduling, cells, locks and observers.

This code runs in the supervisor's process, which imports neither torch nor plugins.
"""
