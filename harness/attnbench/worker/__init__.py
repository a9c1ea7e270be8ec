"""The worker process: one device; loads plugins, conforms, measures, hands back. Forked by the fork server."""
