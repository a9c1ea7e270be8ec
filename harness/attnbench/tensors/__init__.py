"""The tensors of a workload, and the layer or layout conversion around a variant.

This package runs in workers and imports torch.
"""
