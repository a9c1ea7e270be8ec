"""Plugins that log each record of a run to an experiment tracker, in a separate process.

For example, use the MLflow plugin with `attnbench run -p attnbench.observers.mlflow`.
"""
