"""The conformance suite, which every variant must pass, and the gate, which checks the answers around each timing.

The package imports torch, so only workers load it.
"""
