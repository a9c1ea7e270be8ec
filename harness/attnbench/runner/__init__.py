"""Run plans: requests, scheduling, cells, locks, observers. Supervisor side; imports neither torch nor a plugin."""
