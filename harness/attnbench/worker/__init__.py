"""The worker process, which loads one plugin and measures its variant. Worker side: imports torch and plugins."""
