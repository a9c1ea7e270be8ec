"""Which cells a run has and what is known of them beforehand. Supervisor side: imports neither torch nor a plugin."""
