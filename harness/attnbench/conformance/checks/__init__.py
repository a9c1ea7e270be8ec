"""The checks of the conformance suite, one module a family. Worker side: imports torch."""
