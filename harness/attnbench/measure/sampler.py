"""Sample one cell in the worker process: first call, warm-up, and blocks of timed calls."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from attnbench.device_names import device_type
from attnbench.errors import MeasurementError
from attnbench.machine.telemetry import Telemetry, telemetry_for
from attnbench.measure.anticheat.audit import Audit, Excerpt, checksums
from attnbench.measure.anticheat.audit_times import AuditTimes, doubts, second_look
from attnbench.measure.anticheat.integrity import (
    ProcessState,
    harness_answers_called,
    patched_clock,
    side_stream,
    slow_warm_up,
)
from attnbench.measure.cache_flush import CacheFlush, cache_bytes
from attnbench.measure.call import DirectionCall, Result
from attnbench.measure.clock import Clock, CpuShare, by_two_clocks, clock_for, gpu_uuid, raw_now
from attnbench.measure.cuda_graph import GraphCall
from attnbench.measure.launch_delay import LaunchDelays
from attnbench.messages import Block, Suspicion
from attnbench.record import SUSPECT

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig
    from attnbench.plugins.variant import Timed
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

# The warm-up compares windows of WINDOW_CALLS calls. If these take longer than WINDOW_NS, a window ends after that time
# with fewer calls, but with at least MIN_WINDOW_CALLS.
WINDOW_CALLS, MIN_WINDOW_CALLS, WINDOW_NS = 20, 8, 25e6
STEADY_TOLERANCE = 0.01  # the warm-up is steady if the medians of two windows differ by at most this fraction
MIN_SAMPLE_NS = 50_000.0  # hot calls shorter than this are timed in batches, and the mean of each batch is one sample
MAX_QUEUED_CALLS = 256  # at most this many calls, or batches of calls, are queued before the host waits
QUEUE_NS = 20e6  # about this much work, in ns, is queued on a device before the host waits
LEAD_IN_NS = 2e6  # before each block, untimed calls run for this long to refill caches that other processes have used
# In a block that is long enough, at least this many plain calls separate the audited call and the repeat, because a
# variant's cache of outputs may take effect only from the third call on the same inputs.
PLAIN_CALLS_BETWEEN = 3

# The kinds of timed calls: an ordinary call, the audited call on changed inputs, and the repeat on unchanged inputs.
PLAIN, FRESH, REPEAT = "plain", "fresh", "repeat"


@dataclass(frozen=True)
class WarmUp:
    """The result of a warm-up.

    - `steady`: whether the last two windows agreed; if not, the warm-up ended at its time limit
    - `ns_per_call`: the median time of a call in the last window
    - `calls`, `elapsed_ns`: the number of calls and the wall time of the warm-up
    - `cpu_share`: CPU time divided by wall time, without the time for which threads waited for a core; near 0 if the
      callable slept; None if the kernel does not count how long threads waited
    """

    steady: bool
    ns_per_call: float
    calls: int
    elapsed_ns: float
    cpu_share: float | None = None


class Sampler:
    """The sampler of one cell on one device. Call `first_call`, then `warm_up`, then `block` any number of times.

    `process_state` is the state of the process before the plugin was imported. Without this argument, only changes made
    after the sampler was constructed are detected. `excerpt` is a function that copies what will be checked of a call's
    output and gradients; the default copies nothing and returns None. After each block, the caller must check
    `take_excerpts` against the current content of the inputs. The methods raise MeasurementError if the measured times
    can't be trusted.
    """

    def __init__(
        self,
        call: Timed,
        inputs: Inputs,
        workload: Workload,
        device: str,
        config: MeasureConfig,
        *,
        process_state: ProcessState | None = None,
        excerpt: Excerpt = lambda *_: None,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._inputs = inputs
        self._device = device
        self._config = config
        self._process_state = process_state or ProcessState()
        self._workload = workload
        self._clock = clock or clock_for(device)
        self._telemetry = telemetry or telemetry_for(device, gpu_uuid)
        if config.mode == "graph" and device_type(device) != "cuda":
            raise MeasurementError(f"graph mode needs CUDA, got device {device!r}: use hot or cold")
        self._direction_call: DirectionCall | GraphCall = DirectionCall(call, inputs, workload)
        self._flush = CacheFlush(device, cache_bytes(device)) if config.mode == "cold" else None
        self._audit = Audit(inputs, f"{config.seed}:{workload.id}", excerpt)
        self._calls_per_sample = 1
        self._ns_per_call = 0.0
        self._delays = LaunchDelays(self._clock)
        self._warm_up: WarmUp | None = None
        self._result: Result | None = None
        self._block_calls = 0
        self._times: dict[str, list[float]] = {}  # of the last block, by the kind of call
        self._duration_ns = 0.0  # the intended duration of the last block
        self._content: tuple[int, ...] = ()

    def take_excerpts(self) -> list[Any]:
        """Return the excerpts of the last block's audited call and, if one was kept, of a plain call.

        The sampler keeps no reference to them.
        """
        return self._audit.take_excerpts()

    def refuse_changes(self) -> None:
        """Raise MeasurementError if the plugin has changed the process's state.

        `warm_up` and `block` call this method at their ends. Call it after each conformance check as well.
        """
        self._refuse(self._process_state.changes(seeded_calls=self._workload.dropout > 0))

    def first_call(self) -> float:
        """Make the first call, which may compile and autotune, and return its wall time in ns.

        The wall time includes the wait until all devices have finished their work.
        """
        ready_call = self._direction_call.prepare()[0]
        self._delays.synchronise()
        start = self._clock.now()
        ready_call()
        self._delays.synchronise()
        self._ns_per_call = self._positive(float(self._clock.now() - start))
        return self._ns_per_call

    def warm_up(self) -> WarmUp:
        """Make calls until the medians of two successive windows of calls agree within 1%, and return the result.

        The config sets the minimum and the maximum duration. Once the warm-up has started, only the audit may change
        the inputs, by reordering their values. After any other change, `block` raises MeasurementError.
        """
        clock, config = self._clock, self._config
        self._content = checksums(self._inputs)
        self._refuse(harness_answers_called(self._direction_call.prepare()[0]))
        if config.mode == "graph" and isinstance(self._direction_call, DirectionCall):
            self._direction_call = GraphCall(self._direction_call, self._inputs, self._workload)
            self._audit.static_output = True
        begun, cpu_share = clock.now(), CpuShare()
        windows: list[float] = []
        calls, steady, elapsed = 0, False, 0.0
        while not (steady and elapsed >= config.warm_up_min_s * 1e9) and elapsed < config.warm_up_max_s * 1e9:
            window = self._window(begun + config.warm_up_max_s * 1e9)
            calls += len(window)
            windows.append(median(window))
            if len(windows) == 1:
                self._delays.begin()
            self._ns_per_call = windows[-1]
            steady = len(windows) > 1 and len(window) >= MIN_WINDOW_CALLS and _agree(windows[-2], windows[-1])
            elapsed = float(clock.now() - begun)
        if config.mode != "cold" and self._ns_per_call < MIN_SAMPLE_NS:
            self._calls_per_sample = math.ceil(MIN_SAMPLE_NS / self._ns_per_call)
        self._result = None  # a result is kept only within a block, because it may be large
        self._warm_up = WarmUp(steady, self._ns_per_call, calls, elapsed, cpu_share.read())
        self.refuse_changes()
        return self._warm_up

    def block(self, duration_ns: float) -> Block:
        """Take samples for about `duration_ns`, always at least one, and return the block.

        Raises MeasurementError if the times of the block can't be trusted.
        """
        self._duration_ns = duration_ns
        self._lead_in()
        threads = self._process_state.thread_times()
        self._telemetry.start()
        self._delays.synchronise()
        before, begun, after = raw_now(), self._clock.now(), raw_now()
        with _garbage_collector_paused():
            samples = self._collect(duration_ns)
        shortest, wall, longest = raw_now() - after, float(self._clock.now() - begun), raw_now() - before
        telemetry = self._telemetry.read()
        self._result = None
        if telemetry.get("energy_j") is not None:
            telemetry["calls"] = self._block_calls
        self.refuse_changes()
        self._refuse(self._process_state.busy_threads(threads, wall))
        self._check(samples, wall, (shortest, longest), unchanged=self._content == checksums(self._inputs))
        device_ns, synchronised_ns, suspicions = self._two_clocks()
        return Block(samples, self._calls_per_sample, wall, device_ns, synchronised_ns, telemetry, suspicions)

    def second_look(self) -> tuple[Suspicion, ...]:
        """Judge the times of audited calls, after further blocks if the times so far cast doubt on the variant.

        Returns a suspicion if the times prove something that has an honest explanation too. Raises MeasurementError if
        they prove that the variant caches its output. Call this method after the last block.
        """
        claims = doubts(self._audit.times)
        finding = second_look(claims, self._further_times) if claims else None
        self._result = None
        self._audit.take_excerpts()
        if finding is None:
            return ()
        if finding.certain:
            raise MeasurementError(finding.text)
        return (Suspicion(SUSPECT, finding.text),)

    def _further_times(self) -> AuditTimes:
        """Time the calls of one more block, whose samples are not used, and return those of the audited calls."""
        self._lead_in()
        with _garbage_collector_paused():
            self._collect(self._duration_ns)
        return self._audit.times[-1]

    def _lead_in(self) -> None:
        """Make untimed calls, because caches are cold and cores are idle after another worker's turn."""
        for _ in range(max(1, min(MAX_QUEUED_CALLS, int(LEAD_IN_NS / max(1.0, self._ns_per_call))))):
            self._result = None
            self._result = self._direction_call.prepare()[0]()
        self._delays.synchronise()

    def _window(self, deadline: float) -> list[float]:
        """Make the calls of one window, at least one call and none after the deadline, and return their times in ns."""
        times: list[float] = []
        begun = self._clock.now()
        while len(times) < WINDOW_CALLS and (not times or self._clock.now() < deadline):
            if len(times) >= MIN_WINDOW_CALLS and self._clock.now() - begun >= WINDOW_NS:
                break
            marks = [self._timed(1) for _ in range(min(self._queue_length(), WINDOW_CALLS - len(times)))]
            self._delays.synchronise()
            times += [self._positive(self._clock.elapsed_ns(start, end)) for start, end in marks]
        return times

    def _queue_length(self) -> int:
        """Return the number of samples to queue before the host waits. It is 1 on a device that is not asynchronous."""
        if not self._clock.asynchronous:
            return 1
        sample_ns = self._delays.sample_ns(self._calls_per_sample, self._ns_per_call)
        return max(1, min(MAX_QUEUED_CALLS, int(QUEUE_NS / max(1.0, sample_ns))))

    def _collect(self, duration_ns: float) -> list[float]:
        """Make the calls of one block and return the samples in ns.

        The block consists of plain calls, with the audited call or the repeat among them at a random time, and the
        other one of the two at the end. If the audited call comes last, some plain calls follow it.
        """
        clock, self._block_calls = self._clock, 0
        self._times = {PLAIN: [], FRESH: [], REPEAT: []}
        first, second = (FRESH, REPEAT) if self._audit.draw_order() else (REPEAT, FRESH)
        begun = clock.now()
        deadline = begun + max(0.0, duration_ns - self._ns_per_call)  # leaves time for the second one of the two
        first_at = begun + self._audit.draw_start(max(0.0, duration_ns - self._ns_per_call))
        plain_wanted = min(PLAIN_CALLS_BETWEEN, int(duration_ns / max(1.0, self._ns_per_call) / 4))
        samples: list[float] = []
        plain_since: int | None = None  # number of plain calls since the first one of the two; None before it
        while plain_since is None or plain_since < plain_wanted or not samples or clock.now() < deadline:
            taken = []
            for _ in range(self._queue_length()):
                kind = first if plain_since is None and clock.now() >= first_at else PLAIN
                taken.append((kind, self._timed(self._calls_per_sample if kind == PLAIN else 1, kind)))
                if kind != PLAIN:
                    plain_since = 0
                elif plain_since is not None:
                    plain_since += 1
                    if first == FRESH:
                        remaining = max(1.0, deadline - clock.now())
                        self._maybe_keep_plain(self._ns_per_call * self._calls_per_sample / remaining)
            samples += self._sort_by_kind(taken)
        samples += self._sort_by_kind([(second, self._timed(1, second))])
        for remaining_calls in range(plain_wanted if second == FRESH else 0, 0, -1):
            samples += self._sort_by_kind([(PLAIN, self._timed(self._calls_per_sample))])
            self._maybe_keep_plain(1 / remaining_calls)
        self._audit.add_times(self._times[FRESH][0], self._times[REPEAT][0], self._times[PLAIN])
        return samples

    def _maybe_keep_plain(self, probability: float) -> None:
        if self._result is not None:
            self._audit.maybe_keep_plain(self._result, probability)

    def _sort_by_kind(self, taken: list[tuple[str, tuple[Any, Any]]]) -> list[float]:
        """Store the time of each call under its kind, and return the samples.

        If a sample is the mean of several calls, the audited call and the repeat are not samples, because each of them
        is a single call.
        """
        samples = []
        self._delays.synchronise()
        for kind, (start, end) in taken:
            calls = self._calls_per_sample if kind == PLAIN else 1
            sample = self._positive(self._clock.elapsed_ns(start, end) / calls)
            self._times[kind].append(sample)
            if calls == self._calls_per_sample:
                samples.append(sample)
        return samples

    def _timed(self, calls: int, kind: str = PLAIN) -> tuple[Any, Any]:
        """Make `calls` calls between two marks and return the marks.

        A delay precedes the marks, so that all calls are queued before the device reaches the first mark.
        """
        self._block_calls += calls
        if kind != PLAIN:
            self._delays.before_audit()
            self._audit.before(self._result, fresh=kind == FRESH)
        self._result = result = None
        ready_calls = self._direction_call.prepare(calls)
        if self._flush is not None:
            self._flush()
        if kind == PLAIN:
            self._delays.before_calls(calls, self._ns_per_call)
        mark, begun = self._clock.mark, self._clock.now()
        start = mark()
        for ready_call in ready_calls:
            result = ready_call()
        end = mark()
        self._delays.add((self._clock.now() - begun) / calls)
        self._result = result
        if kind == FRESH and result is not None:
            self._audit.after(result)
        return start, end

    def _positive(self, sample: float) -> float:
        if not 0 < sample < math.inf:
            raise MeasurementError(
                f"a sample is {sample!r} ns: the clock of {self._device} stands still or runs backwards"
            )
        return sample

    @staticmethod
    def _refuse(findings: list[str]) -> None:
        if findings:
            raise MeasurementError("; ".join(findings))

    def _check(self, samples: list[float], wall: float, bounds: tuple[int, int], *, unchanged: bool) -> None:
        """Raise MeasurementError if the times of the block can't be trusted.

        `bounds` are the shortest and longest possible wall times of the block by the system's monotonic clock,
        which is read just before and just after each reading of the sampler's clock. `unchanged` says whether the
        inputs still have the checksums that they had before the warm-up.
        """
        if not unchanged:
            raise MeasurementError("mutated inputs: a callable must not change its inputs")
        finding = patched_clock(wall, *bounds)
        warm_up = self._warm_up
        # On a GPU, an unsteady warm-up is not judged, because a higher clock rate alone may make later calls faster.
        if warm_up and (warm_up.steady or not self._clock.asynchronous):
            finding = finding or (slow_warm_up(warm_up, samples) if self._calls_per_sample == 1 else None)
        if finding:
            raise MeasurementError(finding)

    def _two_clocks(self) -> tuple[float | None, float | None, tuple[Suspicion, ...]]:
        """Time a call with device events and the wall clock. Return both times in ns, and any Suspicion.

        On a device that is not asynchronous, both times are None.
        """
        if not self._clock.asynchronous:
            return None, None, ()
        device_ns, synchronised_ns, waited = by_two_clocks(self._clock, lambda: self._direction_call.prepare()[0])
        suspicion = side_stream(device_ns, synchronised_ns, self._clock.launch_floor_ns, waited)
        return device_ns, synchronised_ns, (suspicion,) if suspicion else ()


def _agree(first: float, second: float) -> bool:
    return abs(first - second) <= STEADY_TOLERANCE * max(first, second)


@contextmanager
def _garbage_collector_paused() -> Iterator[None]:
    """Disable the garbage collector within the context."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
