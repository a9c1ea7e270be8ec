"""Wait for what other processes do. The time limits are so long that no test depends on the speed of the machine."""

import time

LONG_S = 300.0  # longer than anything takes that a test waits for, even on a busy machine
POLL_S = 0.02


def wait_until(condition):
    """Wait until `condition()` is true, and return its value. Raises TimeoutError if it is false for very long."""
    deadline = time.monotonic() + LONG_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(POLL_S)
    return value
