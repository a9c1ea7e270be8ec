"""Start worker processes, exchange messages with them, limit their memory, end them, and clean up after them.

This code runs in the supervisor's process, except for `forkserver_main`, which runs in the fork server.
"""
