"""The conformance suite, and the gate that checks answers around each timing. Runs in workers and imports torch."""
