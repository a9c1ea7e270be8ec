"""Worker processes: start, messages, memory limit, end and cleanup. Runs in the supervisor, except for `forkserver_main`."""
