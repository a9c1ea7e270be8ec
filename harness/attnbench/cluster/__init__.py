"""Run cells on the machines of a Ray or Slurm cluster."""
