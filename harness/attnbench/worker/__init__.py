"""The worker process, which loads a plugin and measures one of its variants. Runs in workers and imports torch."""
