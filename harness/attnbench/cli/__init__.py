"""Arguments and printing; the only package that exits."""
