"""The command line: one module per command. Supervisor side; the only package that exits the process."""

from attnbench.cli.app import main

__all__ = ["main"]
