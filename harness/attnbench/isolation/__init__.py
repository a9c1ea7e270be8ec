"""Worker processes as the supervisor sees them: start, talk to, limit, end and clean up. Supervisor side."""
