"""Delays on an asynchronous device, so that it does not wait for the host within the time of a sample."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnbench.measure.clock import Clock

# A delay lasts this many times as long as the host needs to queue the calls that follow it.
DELAY_FACTOR = 1.5
MAX_DELAY_NS = 5e6  # the host does not need longer to queue the calls of a sample, unless a call waits for the device
# The delay in ns before the inputs are changed for an audited call. The host needs less time to queue the changes.
AUDIT_DELAY_NS = 1e6
REMEMBERED = 20  # the host's time to queue a call is the median of this many samples


class LaunchDelays:
    """The delays of one cell: the device starts a sample's calls only after the host has queued all of them.

    Without a delay, a short kernel is finished before the host has launched the next one, and the sample would contain
    the wait for the host. No delay is needed if the device is still busy with earlier calls for long enough. On a
    device that is not asynchronous, there are no delays.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle = True  # whether the device has no queued work
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        self._queueing_ns = 0.0  # the host's time to queue one call

    def synchronise(self) -> None:
        """Wait until the device has finished all work."""
        self._clock.synchronise()
        self._idle = True

    def add(self, queueing_ns: float) -> None:
        """Add the time in ns that the host needed to queue one call."""
        self._times.append(queueing_ns)

    def begin(self) -> None:
        """Begin to delay calls, by the times added so far.

        Times that are added later are not used: if a call waits for the device, they include the delays.
        """
        if self._clock.asynchronous:
            self._queueing_ns = median(self._times)

    def before_calls(self, calls: int, ns_per_call: float) -> None:
        """Delay the device until the host has queued `calls` calls, each of which takes about `ns_per_call`."""
        if self._queueing_ns and (self._idle or self._host_bound(ns_per_call)):
            self._clock.delay(self._delay_ns(calls))
        self._idle = False

    def before_audit(self) -> None:
        """Delay the device until the host has changed the inputs for an audited call and queued the call.

        A call that did its work on another stream during a delay would not be timed. Because the inputs are changed
        after this delay, such a call reads the old inputs, and its output is wrong.
        """
        self._clock.delay(AUDIT_DELAY_NS)

    def sample_ns(self, calls: int, ns_per_call: float) -> float:
        """Return for how long a sample of `calls` calls occupies the device, in ns, including its delay."""
        return calls * ns_per_call + (self._delay_ns(calls) if self._host_bound(ns_per_call) else 0.0)

    def _host_bound(self, ns_per_call: float) -> bool:
        """Return whether the device could finish a call before the host has queued the next one."""
        return ns_per_call < DELAY_FACTOR * self._queueing_ns

    def _delay_ns(self, calls: int) -> float:
        return min(MAX_DELAY_NS, DELAY_FACTOR * calls * self._queueing_ns)
