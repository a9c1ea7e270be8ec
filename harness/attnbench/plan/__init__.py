"""The planning of a run's cells. This package runs in the supervisor and imports neither torch nor a plugin."""
