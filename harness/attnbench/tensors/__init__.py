"""A workload's tensors, and the layer or layout conversion around a variant. The code runs in workers, with torch."""
