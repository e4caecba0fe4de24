"""The lab's calls beside the certificates: how many, how many were lost, and which certificate new ones use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from rich.table import Table
from rich.text import Text

from adapters.carriers.base import Carrier
from desk.figures import bar, share_text
from desk.lab_client import LabState
from domain.errors import RotatorError
from domain.handshakes import Record, call_setups
from domain.plan import Plan

WINDOW = timedelta(seconds=8)
"""Calls of this long ago are new calls."""


class Traffic(Record):
    """One moment of one trunk. `share_on_b` is that of new calls, None without any or without figures."""

    placed: int
    completed: int
    lost: int
    active: int
    active_on_a: int
    share_on_b: float | None = None


async def shares_on_b(plan: Plan, carriers: Mapping[str, Carrier], sha256_b: str | None) -> dict[str, float]:
    """By endpoint: the share of the carrier's new calls that use B; endpoints without figures are left out."""
    shares = {}
    until = datetime.now(UTC)
    for endpoint in plan.endpoints if sha256_b else ():
        try:
            reading = await carriers[endpoint.carrier].reading(endpoint, until - WINDOW, until)
        except RotatorError:
            continue
        attributed = [sample for sample in reading.real() if sample.sha256 is not None]
        new = call_setups(attributed).attempts
        if new:
            shares[endpoint.name] = call_setups([s for s in attributed if s.sha256 == sha256_b]).attempts / new
    return shares


def traffic(state: LabState, plan: Plan, sha256_a: str, shares: Mapping[str, float]) -> dict[str, Traffic]:
    """Every endpoint's traffic; the lab names its trunks as the carrier does."""
    found = {}
    for endpoint in plan.endpoints:
        trunk = state.trunks[endpoint.carrier_trunk]
        found[endpoint.name] = Traffic(
            placed=trunk.calls.placed,
            completed=trunk.calls.completed,
            lost=trunk.calls.lost,
            active=trunk.calls.active,
            active_on_a=trunk.active_calls.get(sha256_a, 0),
            share_on_b=shares.get(endpoint.name),
        )
    return found


def traffic_table(found: Mapping[str, Traffic], *, adopt_share: float, plain: bool) -> Table:
    """Calls of every endpoint, and the share of new ones on B as a bar with its mark at ADOPT's threshold."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("trunk")
    for column in ("placed", "completed", "lost", "active", "on A"):
        table.add_column(column, justify="right")
    table.add_column("new calls on B", no_wrap=True)
    for name, one in found.items():
        share = bar(one.share_on_b, adopt_share, plain=plain, cells=12)
        table.add_row(
            name,
            str(one.placed),
            str(one.completed),
            Text(str(one.lost), style="bold red" if one.lost else "green"),
            str(one.active),
            str(one.active_on_a),
            share.append(f" {share_text(one.share_on_b)}"),
        )
    return table


def traffic_line(found: Mapping[str, Traffic]) -> str:
    """The same in one line."""
    return "; ".join(
        f"{name}: {one.placed} placed, {one.lost} lost, {one.active_on_a} active on A, "
        f"new calls on B {share_text(one.share_on_b)}"
        for name, one in found.items()
    )
