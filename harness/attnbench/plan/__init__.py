"""The cells of a run, and what is known about them before they are measured. This package runs in the supervisor."""
