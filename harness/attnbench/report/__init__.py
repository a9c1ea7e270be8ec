"""Tables, figures and pages: pure functions of a frame of records."""
