"""Execution of runs on a Ray or Slurm cluster. Runs in the supervisor, and each node has a supervisor of its own."""
