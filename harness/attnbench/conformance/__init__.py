"""The conformance suite, and the gate that checks the answers of timed calls. Both run in workers and import torch."""
