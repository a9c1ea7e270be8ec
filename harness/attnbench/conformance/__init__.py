"""The conformance suite, which every variant must pass, and the gate, which checks each cell's answers.

The package imports torch, so only workers import it.
"""
