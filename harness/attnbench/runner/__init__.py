"""Execution of runs: requests, scheduling, cells, locks and observers. Runs in the supervisor."""
