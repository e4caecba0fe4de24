"""Figures of a gate against their thresholds, from its findings or from a watcher's last words; and as bars."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.text import Text

from domain.gates import Finding, Verdict
from domain.handshakes import Record, percent

BAR_CELLS = 20

CUT_AT = 2000
"""Characters at which a watcher's last words are cut, in the middle of a part."""

_SPOKEN = re.compile(
    r"(?:(?P<endpoint>[a-z0-9][a-z0-9._-]*): )?(?P<check>[^:;]+): (?P<seen>.*?)"
    r"(?: \(expected (?P<expected>[^()]*)\))?(?P<synthetic> \[synthetic\])?"
)
_SHARE = re.compile(r"\((\d+(?:\.\d+)?) %\)")
_THRESHOLD = re.compile(r"[≥>] (\d+(?:\.\d+)?) %")

STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.ERROR: "bold red",
    Verdict.NOT_CHECKED: "dim",
    Verdict.WARN: "yellow",
}


class Figure(Record):
    """One measured thing: `value` and `threshold` are shares 0–1 where there are any."""

    check: str
    seen: str
    expected: str = ""
    endpoint: str | None = None
    value: float | None = None
    threshold: float | None = None
    synthetic: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the share reaches its threshold; None without both."""
        if self.value is None or self.threshold is None:
            return None
        return self.value >= self.threshold


def from_finding(finding: Finding) -> Figure:
    """The figure of a decided finding; a `value` without threshold (a count) is no share."""
    share = finding.value if finding.threshold is not None else None
    return Figure(
        check=finding.check,
        seen=finding.seen,
        expected=finding.expected,
        endpoint=finding.endpoint,
        value=share,
        threshold=finding.threshold,
        synthetic=finding.synthetic,
    )


def spoken(text: str) -> list[Figure]:
    """The figures in a gate's last words; parts that hold no share come back with their text alone."""
    figures, parts = [], text.split("; ")
    whole = parts if len(text) < CUT_AT else parts[:-1]
    for part in whole:
        match = _SPOKEN.fullmatch(part.strip())
        if match is None:
            continue
        expected = match["expected"] or ""
        share, threshold = _SHARE.search(match["seen"]), _THRESHOLD.search(expected)
        figures.append(
            Figure(
                check=match["check"],
                seen=match["seen"],
                expected=expected,
                endpoint=match["endpoint"],
                value=float(share[1]) / 100 if share else None,
                threshold=float(threshold[1]) / 100 if threshold else None,
                synthetic=match["synthetic"] is not None,
            )
        )
    return figures


def worst_first(figures: Iterable[Figure]) -> list[Figure]:
    """Figures below their threshold, then those without a share, then the good ones."""
    order = {False: 0, None: 1, True: 2}
    return sorted(figures, key=lambda figure: order[figure.holds])


def bar(value: float | None, threshold: float | None, *, plain: bool = False, cells: int = BAR_CELLS) -> Text:
    """A share 0–1 as a bar with a mark at its threshold. `plain` uses ASCII only."""
    full, empty, mark = ("#", ".", "|") if plain else ("█", "░", "┃")
    if value is None:
        return Text(empty * cells, style="dim")
    filled = min(cells, max(0, int(value * cells + 1e-9)))
    at = None if threshold is None else min(cells - 1, max(0, int(threshold * cells)))
    style = "green" if threshold is None or value >= threshold else "red"
    text = Text()
    for cell in range(cells):
        if cell == at:
            text.append(mark, style="bold")
        else:
            text.append(full if cell < filled else empty, style=style if cell < filled else "dim")
    return text


def share_text(value: float | None) -> str:
    """A share as a percentage; no data is not a number."""
    return "no data" if value is None else percent(value)
