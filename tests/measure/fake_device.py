"""A simulated device for the sampler, on which the host queues work, without a GPU."""

from __future__ import annotations


class FakeDevice:
    """The times in ns that the host, the device and a side stream have reached. It is also the sampler's clock."""

    def __init__(self, *, asynchronous=True, launch_ns=1_000.0, tick_ns=100.0):
        self.asynchronous = asynchronous
        self.launch_ns = launch_ns
        self.tick_ns = tick_ns
        self.host = self.device = self.side = 0.0
        self.synchronised = 0
        self.system_speed = 1.0  # of the system's second clock, relative to this clock
        self.launch_floor_ns = 2 * launch_ns

    def call(self, cost_ns, *, side_ns=0.0):
        """Queue `cost_ns` of work on the current stream and `side_ns` on a side stream."""
        self.host += self.launch_ns
        self.device = max(self.device, self.host) + cost_ns
        if side_ns:
            self.side = max(self.side, self.host) + side_ns
        if not self.asynchronous:
            self.host = self.device

    def now(self):
        """Return the wall time in ns."""
        self.host += self.tick_ns
        return int(self.host)

    def mark(self):
        """Return an event: the time at which the device reaches this point."""
        return max(self.device, self.host)

    @staticmethod
    def elapsed_ns(start, end):
        """Return the time between two events."""
        return end - start

    def synchronise(self):
        """Let the host wait for all streams."""
        self.synchronised += 1
        self.host = max(self.host, self.device, self.side)
