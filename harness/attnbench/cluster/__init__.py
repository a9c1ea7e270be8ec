"""Runs whose cells are measured on other machines, by Ray or Slurm. Supervisor side."""
