"""Execute runs on a Ray or Slurm cluster. This package runs in the supervisor. Each node also has its own supervisor."""
