"""Entries of a platform's metrics that stand for the same thing are one sample."""

from __future__ import annotations

from adapters.edges.counting import one_each
from tests.domain.readings import A, B, reading, sample, tally


def test_entries_of_one_certificate_direction_and_peer_are_summed_up() -> None:
    """A leaf under two ids; and two certificates that the platform does not hold any more."""
    entries = [
        sample(sha256=B, peer="192.0.2.1", handshakes=tally(3, timeout=1), call_setups=tally(2)),
        sample(sha256=None, peer="192.0.2.1", handshakes=tally(5)),
        sample(sha256=B, peer="192.0.2.1", handshakes=tally(4), call_setups=tally(1, **{"503": 1})),
        sample(sha256=None, peer="192.0.2.1", handshakes=tally(0, unknown_ca=2)),
        sample(sha256=A, peer="192.0.2.1", handshakes=tally(7)),
        sample(sha256=A, peer="192.0.2.2", handshakes=tally(8)),
    ]
    merged = one_each(entries)
    assert [(one.sha256, one.peer) for one in merged] == [
        (B, "192.0.2.1"),
        (None, "192.0.2.1"),
        (A, "192.0.2.1"),
        (A, "192.0.2.2"),
    ]
    assert merged[0].handshakes == tally(7, timeout=1)
    assert merged[0].call_setups == tally(3, **{"503": 1})
    assert merged[1].handshakes == tally(5, unknown_ca=2)
    assert reading(*entries).damage() == "2 of 6 samples are here twice"
    assert reading(*merged).damage() is None
