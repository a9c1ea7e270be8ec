"""Execute runs on a Ray or Slurm cluster. This package runs in the supervisor. Each node has one too."""
