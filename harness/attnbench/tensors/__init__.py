"""The tensors of a workload, and the layer or layout conversion around a variant. Runs in workers and imports torch."""
