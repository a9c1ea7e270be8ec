"""The command line, with one module per command.

Only this package may exit the process. It runs in the supervisor, so it imports neither torch nor plugins.
"""

from attnbench.cli.app import main

__all__ = ["main"]
