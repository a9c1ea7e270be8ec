"""Execution on the machines of a Ray or Slurm cluster. Runs in the supervisor, on the driver and on each node."""
