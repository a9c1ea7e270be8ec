"""Plugins that log each record of a run to an experiment tracker, in a process beside the supervisor.

Use one with `attnbench run -p attnbench.observers.mlflow`.
"""
