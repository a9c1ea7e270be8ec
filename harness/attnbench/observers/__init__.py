"""Plugins that hand each record of a run to an experiment tracker: `attnbench run -p attnbench.observers.mlflow`."""
