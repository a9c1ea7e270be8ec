"""The command line, with one module per command. This package runs in the supervisor."""

from attnbench.cli.app import main

__all__ = ["main"]
