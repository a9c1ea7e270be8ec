"""Run the command line by `python -m attnbench.cli`."""

from attnbench.cli.app import main

main()
