"""Execute runs: requests, scheduling, cells, locks and observers. This package runs in the supervisor."""
