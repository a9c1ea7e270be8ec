"""Plugins that log each record of a run to an experiment tracker. The plugins run in a separate process.

For example, `attnbench run -p attnbench.observers.mlflow` logs the records to MLflow.
"""
