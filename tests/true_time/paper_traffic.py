"""Carrier traffic on paper: handshakes and call setups as a pure function of the time between two instants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from domain.handshakes import Reporter, Sample, Tally
from domain.plan import Direction, Endpoint
from tests.true_time.history import History
from tests.true_time.script import Script, within

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = timedelta(milliseconds=200)
"""Between two new calls, each on a connection of its own, in each direction."""
LIGHT_EVERY = timedelta(milliseconds=9050)
"""The same on a trunk of little traffic: 100 in 15 minutes, now one more and now one less."""
CALL_LASTS = timedelta(minutes=3)
ONE_IN = 10
"""Of that many handshakes one is refused, when the script refuses their certificate."""


class PaperTraffic:
    """What the carrier does on one endpoint. `chosen` gives the certificate that a new connection is served."""

    def __init__(
        self, endpoint: Endpoint, a: str, script: Script, chosen: Callable[[datetime], str], turning: list[History]
    ) -> None:
        self._endpoint, self._a, self._script = endpoint, a, script
        self._chosen, self._turning = chosen, turning

    def samples(self, reporter: Reporter, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """Everything in [since, until), one sample for each certificate and direction that had traffic."""
        found = []
        tallies: dict[str, tuple[Tally, Tally]] = {}
        for sha256, shakes in self._pieces(since, until):
            calls = Tally(attempts=shakes.successes, successes=shakes.successes)
            before = tallies.get(sha256, (Tally(), Tally()))
            tallies[sha256] = before[0] + shakes, before[1] + calls
        for sha256, (shakes, calls) in tallies.items():
            for direction in self._endpoint.directions:
                found.append(self._sample(reporter, direction, sha256, shakes, calls))
        return tuple(found)

    def active_calls(self, sha256: str, at: datetime) -> int:
        """Calls that were set up with the certificate and have not ended."""
        each = [shakes.successes for name, shakes in self._pieces(at - CALL_LASTS, at) if name == sha256]
        return sum(each) * len(self._endpoint.directions)

    def _pieces(self, since: datetime, until: datetime) -> Iterator[tuple[str, Tally]]:
        """(certificate, handshakes in one direction) of every stretch in which nothing changes."""
        turns = {*self._script.turns(), *(turn for history in self._turning for turn in history.turns())}
        edges = [since, *sorted(turn for turn in turns if since < turn < until), until]
        for start, end in pairwise(edges):
            if within(start, self._script.quiet):
                continue
            every = LIGHT_EVERY if within(start, self._script.light) else EVERY
            first, last = (start - EPOCH) // every, (end - EPOCH) // every
            sha256 = self._chosen(start)
            refused_from = self._script.refused_from.get("A" if sha256 == self._a else "B", end)
            refused = last // ONE_IN - first // ONE_IN if start >= refused_from else 0
            if last > first:
                failures = {"unknown_ca": refused} if refused else {}
                yield sha256, Tally(attempts=last - first, successes=last - first - refused, failures=failures)

    def _sample(self, reporter: Reporter, direction: Direction, sha256: str, shakes: Tally, calls: Tally) -> Sample:
        return Sample(
            endpoint=self._endpoint.name,
            reporter=reporter,
            direction=direction,
            sha256=sha256,
            peer=self._endpoint.peers[0] if reporter is Reporter.PLATFORM else None,
            handshakes=shakes,
            call_setups=calls,
        )
