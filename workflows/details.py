"""A rotation as markdown for the Web UI: someone who has only that page sees the story and can answer."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from domain.gates import GateResult, Verdict
    from domain.phases import GUARDED
    from domain.rotation import short

from workflows.state import RotationState

FINDINGS_SHOWN = 40
"""Of a gate's findings, those first that did not pass."""

MESSAGES_SHOWN = 5

PAUSE_JSON = '`{"by": "your name", "reason": "why"}`'
ROLLBACK_HINT = 'To turn back, send the signal `rollback` with `{"by": "your name", "reason": "why"}`.'


def details(state: RotationState) -> str:
    """Phase, reason, what it waits for with the JSON to send, certificates, guard, last gate, times."""
    paragraphs = [f"## {state.phase}", *_now(state), *_certificates(state)]
    if state.guard is not None:
        paragraphs.append(f"**Guard** {state.guard.verdict}: {state.guard.text}")
    elif state.phase in GUARDED:
        paragraphs.append("**Guard** watches; its last look is the message of the pending activity `guard`")
    if state.last_gate is not None:
        paragraphs.append(_gate(state.last_gate))
    paragraphs += _messages(state)
    rows = [f"| {time.phase} | {time.entered_at:%Y-%m-%d %H:%M:%S} |" for time in state.phases]
    paragraphs.append("\n".join(["| phase | since (UTC) |", "|---|---|", *rows]))
    return "\n\n".join(paragraphs)


def _now(state: RotationState) -> list[str]:
    lines = []
    if state.turn_back is not None:
        lines.append(f"**Turning back** – {state.turn_back.text()}")
    if state.rollback is not None and state.rollback.a_alone_seconds is not None:
        lines.append(f"A alone read back after **{state.rollback.a_alone_seconds:.1f} s**")
    if state.failure:
        lines.append(f"**Failed** – {state.failure}")
    if state.frozen:
        lines.append(f"**Advance is frozen** – {state.frozen}")
    if state.paused is not None:
        lines.append(f"**Paused** – {state.paused.text()}. To go on, send the signal `resume` with {PAUSE_JSON}")
    if state.waiting is not None:
        until = f", until {state.waiting.until:%Y-%m-%d %H:%M:%S} UTC" if state.waiting.until else ""
        lines.append(f"**Waiting for** {state.waiting.what}{until}")
        if state.waiting.answer:
            lines.append(f"To answer, send the signal `approve` with\n\n```json\n{state.waiting.answer}\n```")
    if state.reversible and state.turn_back is None:
        lines.append(ROLLBACK_HINT)
    return lines


def _messages(state: RotationState) -> list[str]:
    """The last messages and what came of them; who sent one without encryption could be anybody."""
    lines = []
    for decision in state.decisions[-MESSAGES_SHOWN:]:
        what = _cell(f"{decision.message} {decision.gate or ''}".strip())
        mark = " – **came unencrypted**" if decision.plaintext else ""
        lines.append(f"- {what} by {_cell(decision.by or '?')}: {decision.outcome}{mark}")
    if state.decisions_dropped:
        lines.append(f"- and {state.decisions_dropped} further ones without effect")
    return ["\n".join(["**Messages**", "", *lines])] if lines else []


def _certificates(state: RotationState) -> list[str]:
    return [
        f"**{name}** SHA-256 `{short(c.sha256)}`, serial `{c.serial}`, expires {c.not_after:%Y-%m-%d %H:%M} UTC"
        for name, c in (("A", state.a), ("B", state.b))
        if c is not None
    ]


def _gate(gate: GateResult) -> str:
    overridden = f", overridden by {gate.overridden_by}" if gate.overridden_by else ""
    head = [
        f"**Gate {gate.gate}: {gate.verdict}{overridden}**",
        "",
        "| check | seen | expected | verdict |",
        "|---|---|---|---|",
    ]
    shown = sorted(gate.findings, key=lambda finding: finding.verdict is Verdict.PASS)[:FINDINGS_SHOWN]
    rows = [
        f"| {f'{f.endpoint}: ' if f.endpoint else ''}{f.check}{' (synthetic)' if f.synthetic else ''} "
        f"| {_cell(f.seen)} | {_cell(f.expected)} | {f.verdict} |"
        for f in shown
    ]
    if len(gate.findings) > len(shown):
        rows.append(f"| and {len(gate.findings) - len(shown)} more | | | |")
    return "\n".join([*head, *rows])


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "/")[:200]
