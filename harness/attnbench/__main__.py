"""Run the command line by `python -m attnbench`."""

from attnbench.cli.app import main

main()
