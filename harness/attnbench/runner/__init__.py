"""From a plan to cells to devices: supervises workers."""
