"""What all tests share."""

from hypothesis import settings

pytest_plugins = ["pytester"]

# Drawn cases are the same on every machine and in every run; a slow machine fails no test.
settings.register_profile("attnbench", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("attnbench")
