"""The cells of a run and what is known about them before they run. Runs in the supervisor."""
