"""Execution of runs on a Ray or Slurm cluster. This package runs on the user's machine and on each node."""
