"""The worker process, which loads one plugin and measures its variant. Runs in workers and imports torch."""
