"""The machine itself: what disturbs timings, its state beside each block. Both sides; no torch."""
