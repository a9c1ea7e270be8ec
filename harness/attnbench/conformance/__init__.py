"""The conformance suite, and the gate that checks the answers of timed calls. Runs in workers and imports torch."""
