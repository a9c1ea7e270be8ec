"""The worker process: one device; loads plugins, conforms, measures, hands back. Started by `python -m`."""
