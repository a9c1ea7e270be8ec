"""A simulated device on which the host can queue work, to test the sampler without a GPU."""

from __future__ import annotations

from collections import deque


class FakeDevice:
    """A simulated device with a side stream. It also serves as the sampler's clock.

    `host`, `device` and `side` are the current times in ns of the host, the device and the side stream. The host needs
    `launch_ns` to queue a call. At most `queue_length` calls are queued: the host then waits until the device has
    finished the first of them. `log` lists the kinds of work that were queued. `waited` and `slept` are the times in ns
    for which the host waited for a core (None if unknown) and slept; it uses CPU time for the rest of its time.
    """

    def __init__(self, *, asynchronous=True, launch_ns=1_000.0, tick_ns=100.0, queue_length=1024):
        self.asynchronous = asynchronous
        self.launch_ns = launch_ns
        self.queue = deque(maxlen=queue_length)
        self.log = []
        self.tick_ns = tick_ns
        self.host = self.device = self.side = 0.0
        self.waited = self.slept = 0.0
        self.synchronised = 0
        self.system_speed = 1.0  # the speed of the system's monotonic clock relative to the device's clock
        self.launch_floor_ns = 2 * launch_ns

    def call(self, cost_ns, *, side_ns=0.0):
        """Queue `cost_ns` of work on the current stream and `side_ns` on a side stream."""
        self.log.append("call")
        self._wait_for_place()
        self.host += self.launch_ns
        self.device = max(self.device, self.host) + cost_ns
        self.queue.append(self.device)
        if side_ns:
            self.side = max(self.side, self.host) + side_ns
        if not self.asynchronous:
            self.host = self.device

    def delay(self, duration_ns):
        """Queue a delay on the current stream."""
        if self.asynchronous:
            self.log.append("delay")
            self._wait_for_place()
            self.host += self.tick_ns
            self.device = max(self.device, self.host) + duration_ns
            self.queue.append(self.device)

    def wait_for_core(self, duration_ns):
        """Let the host wait for a core that other processes use."""
        self.host += duration_ns
        self.waited += duration_ns

    def sleep(self, duration_ns):
        """Let the host sleep."""
        self.host += duration_ns
        self.slept += duration_ns

    def _wait_for_place(self):
        if len(self.queue) == self.queue.maxlen:
            self.host = max(self.host, self.queue[0])

    def now(self):
        """Return the wall time in ns."""
        self.host += self.tick_ns
        return int(self.host)

    def mark(self):
        """Return an event, which is the time at which the device reaches this point."""
        return max(self.device, self.host)

    @staticmethod
    def elapsed_ns(start, end):
        """Return the time between two events in ns."""
        return end - start

    def synchronise(self):
        """Make the host wait for all streams."""
        self.synchronised += 1
        self.host = max(self.host, self.device, self.side)
