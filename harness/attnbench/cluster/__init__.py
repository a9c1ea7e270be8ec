"""Execution of runs on a Ray or Slurm cluster. Runs in the supervisor, on the user's machine and on each node."""
