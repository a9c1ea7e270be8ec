"""Start, control and end worker processes. This package runs in the supervisor, except for `forkserver_main`."""
