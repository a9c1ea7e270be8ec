"""Run the command line as `python -m attnbench`."""

from attnbench.cli.app import main

main()
