"""Plan the cells of a run: variants, devices, ids, history. Supervisor side: imports neither torch nor a plugin."""
