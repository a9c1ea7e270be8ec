"""Starting, controlling and ending worker processes. Runs in the supervisor, except for `forkserver_main`."""
