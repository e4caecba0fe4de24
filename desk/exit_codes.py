"""The exit codes of the command line: one table for `--help`, the documentation and the tests."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a verb ends with."""

    FINE = 0
    UNEXPECTED = 1
    USAGE = 2
    ROLLED_BACK = 3
    ABORTED = 4
    UNREACHABLE = 5
    REFUSED = 6
    FINDINGS = 7
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.FINE: "fine; for `start --wait`, `status --watch` and `demo`: the rotation completed",
    ExitCode.UNEXPECTED: "unexpected; what happened is printed",
    ExitCode.USAGE: "wrong options, plan or settings",
    ExitCode.ROLLED_BACK: "the rotation rolled back to A",
    ExitCode.ABORTED: "the rotation was aborted before anything was changed on an endpoint",
    ExitCode.UNREACHABLE: "Temporal, a worker or a key of the payload encryption cannot be reached",
    ExitCode.REFUSED: "refused: no such rotation, that gate is not waiting, or one is running already",
    ExitCode.FINDINGS: "a dry run has findings: the rotation would not start",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C (SIGTERM: 143, SIGHUP: 129); a rotation that was started goes on",
}


def help_text() -> str:
    """The table for `--help`, one line each."""
    lines = [f"{code.value:<4} {meaning}" for code, meaning in MEANINGS.items()]
    return "\b\n" + "\n".join(lines)


def markdown_table() -> str:
    """The table of `docs/exit-codes.md`."""
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["| Code | Meaning |", "|---|---|", *rows])
