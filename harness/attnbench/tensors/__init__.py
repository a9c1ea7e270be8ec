"""The tensors of a workload and what a variant is called with. Worker side: imports torch."""
