"""The demo as a program: what it ends with, and that nothing is left of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def descendants(pid: int) -> set[int]:
    """Every process below `pid`."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in listed.splitlines()}
    found: set[int] = set()
    front = {pid}
    while front:
        front = {child for child, parent in parents.items() if parent in front} - found
        found |= front
    return found


def running(pids: set[int]) -> set[int]:
    """Those that are still there; a dead process that nobody has waited for is not."""
    listed = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    alive = {int(line.split()[0]) for line in listed.splitlines() if not line.split()[1].startswith("Z")}
    return pids & alive


def demo(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """A demo whose temporary directory and output are under `tmp_path`."""
    with (tmp_path / "output").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "starter.py", "demo", *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path), "TEMPORAL_ADDRESS": "nowhere.invalid:7233"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def said(tmp_path: Path) -> str:
    return (tmp_path / "output").read_text(encoding="utf-8")


def until_said(process: subprocess.Popen[str], tmp_path: Path, words: str) -> None:
    limit = time.monotonic() + 120
    while words not in said(tmp_path):
        assert process.poll() is None, said(tmp_path)
        assert time.monotonic() < limit, said(tmp_path)
        time.sleep(0.05)


def test_a_fault_ends_with_3_and_the_proof_and_nothing_is_left(tmp_path: Path) -> None:
    process = demo(tmp_path, "--fault", "health-invalid")
    until_said(process, tmp_path, "READINESS")
    started = descendants(process.pid)
    assert len(started) >= 5  # Temporal, lab, OpenBao, codec server, worker
    assert process.wait(120) == 3
    text = said(tmp_path)
    for words in ("ROLLED_BACK", "gate readiness", "A alone on every endpoint after", "0 lost", "3 of 3 listeners"):
        assert words in text
    assert re.search(r"promise 1 held all the time", text)
    assert running(started) == set()
    assert list(tmp_path.glob("sip-rotate-demo-*")) == []


@pytest.mark.parametrize(
    ("number", "moment", "code"),
    [(signal.SIGINT, "starting", 130), (signal.SIGTERM, "PREFLIGHT", 143)],
    ids=["Ctrl-C at the start", "SIGTERM in the middle"],
)
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals, moment: str, code: int) -> None:
    process = demo(tmp_path)
    until_said(process, tmp_path, moment)
    time.sleep(0.5)
    started = descendants(process.pid)
    process.send_signal(number)
    assert process.wait(60) == code
    assert started
    assert running(started) == set()
    assert list(tmp_path.glob("sip-rotate-demo-*")) == []


def test_a_demo_that_fails_shows_the_logs_and_where_they_are(tmp_path: Path) -> None:
    directory = tmp_path / "a directory"
    process = demo(tmp_path, "--directory", str(directory))
    until_said(process, tmp_path, "PREFLIGHT")
    started = descendants(process.pid)
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    worker = next(
        int(line.split()[0]) for line in listed.splitlines() if "-m worker" in line and int(line.split()[0]) in started
    )
    os.kill(worker, signal.SIGKILL)
    assert process.wait(60) == 1
    text = said(tmp_path)
    assert "worker ended with code -9" in text
    assert f"logs are in {directory}" in text
    assert "lab is ready" in text
    assert running(started) == set()
