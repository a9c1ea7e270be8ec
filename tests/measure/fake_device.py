"""A device with its own timeline for the sampler: the host queues, the device follows, without a GPU."""

from __future__ import annotations


class FakeDevice:
    """Two timelines in ns, the host's and the device's, and a side stream's; it is the sampler's clock, too."""

    def __init__(self, *, asynchronous=True, launch_ns=1_000.0, tick_ns=100.0):
        self.asynchronous = asynchronous
        self.launch_ns = launch_ns
        self.tick_ns = tick_ns
        self.host = self.device = self.side = 0.0
        self.synchronised = 0
        self.system_speed = 1.0  # of the system's second clock against this one
        self.launch_floor_ns = 2 * launch_ns

    def call(self, cost_ns, *, side_ns=0.0):
        """Queue work on the current stream, and perhaps on a side stream."""
        self.host += self.launch_ns
        self.device = max(self.device, self.host) + cost_ns
        if side_ns:
            self.side = max(self.side, self.host) + side_ns
        if not self.asynchronous:
            self.host = self.device

    def now(self):
        """Wall time."""
        self.host += self.tick_ns
        return int(self.host)

    def mark(self):
        """Give an event: the time at which the device gets here."""
        return max(self.device, self.host)

    @staticmethod
    def elapsed_ns(start, end):
        """Time between two events."""
        return end - start

    def synchronise(self):
        """Wait for all streams."""
        self.synchronised += 1
        self.host = max(self.host, self.device, self.side)
