"""Arguments and printing; the only package that exits."""

from attnbench.cli.app import main

__all__ = ["main"]
