"""Checks of a variant against the reference."""
