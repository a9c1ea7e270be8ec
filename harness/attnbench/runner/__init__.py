"""From a plan to cells to devices: supervises workers; imports neither torch nor a plugin."""
