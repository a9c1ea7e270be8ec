"""The conformance suite that every variant must pass, and the gate around each timing. Worker side: imports torch."""
