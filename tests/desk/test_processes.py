"""Children of the demo end with everything that they started."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from desk.processes import Child, ChildFailed, Children

GRANDCHILD = """
import signal, subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("grandchild", inner.pid, flush=True)
{extra}
time.sleep(600)
"""


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text() if Path("/proc").exists() else ""
        os.kill(pid, 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return ") Z " not in stat


def _gone_soon(pid: int) -> bool:
    until = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not _alive(pid)


async def _with_grandchild(children: Children, tmp_path: Path, extra: str = "") -> tuple[Child, int]:
    code = GRANDCHILD.format(extra=extra)
    child = children.start("parent", [sys.executable, "-c", code], env=os.environ, cwd=tmp_path)

    def said() -> int | None:
        words = child.output().split()
        return int(words[1]) if len(words) > 1 else None

    return child, await child.ready(said, 10)


async def test_a_childs_children_are_gone_after_stop(tmp_path: Path) -> None:
    children = Children(tmp_path)
    child, grandchild = await _with_grandchild(children, tmp_path)
    assert _alive(grandchild)
    assert children.stop() == []
    assert _gone_soon(grandchild)
    assert not _alive(child.pid)


async def test_a_child_that_ignores_sigterm_is_killed_and_named(tmp_path: Path) -> None:
    children = Children(tmp_path)
    child, grandchild = await _with_grandchild(
        children, tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
    )
    await child.ready(lambda: "deaf" in child.output() or None, 10)
    assert child.stop(within_s=0.3) is False
    assert _gone_soon(grandchild)


async def test_children_of_a_child_that_died_by_itself_are_gone_too(tmp_path: Path) -> None:
    children = Children(tmp_path)
    child, grandchild = await _with_grandchild(children, tmp_path)
    os.kill(child.pid, signal.SIGKILL)
    await child.ready(lambda: None if child.running else True, 5)
    with pytest.raises(ChildFailed, match="parent ended with code -9"):
        children.check()
    children.stop()
    assert _gone_soon(grandchild)


async def test_a_child_that_ends_before_it_is_ready_shows_its_last_words(tmp_path: Path) -> None:
    children = Children(tmp_path)
    code = "import sys; sys.exit('no key, no start')"
    child = children.start("worker", [sys.executable, "-c", code], env=os.environ, cwd=tmp_path)
    with pytest.raises(ChildFailed, match=r"(?s)worker ended with code 1:.*no key, no start"):
        await child.ready(lambda: None, 10)
    assert "no key, no start" in children.tails()
    children.stop()


async def test_a_child_that_is_never_ready_is_named_with_its_time(tmp_path: Path) -> None:
    children = Children(tmp_path)
    child = children.start("lab", [sys.executable, "-c", "import time; time.sleep(60)"], env=os.environ, cwd=tmp_path)
    with pytest.raises(ChildFailed, match="lab is not ready after 0 s"):
        await child.ready(lambda: None, 0.2)
    children.stop()


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="temporal cannot be started"):
        Children(tmp_path).start("temporal", ["/nowhere/temporal"], env=os.environ, cwd=tmp_path)


async def test_children_end_in_reverse_order(tmp_path: Path) -> None:
    children = Children(tmp_path)
    order = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n    open(sys.argv[2], 'a').write(sys.argv[1] + ' ')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    for name in ("lab", "worker"):
        child = children.start(name, [sys.executable, "-c", code, name, str(order)], env=os.environ, cwd=tmp_path)
        await child.ready(lambda child=child: "up" in child.output() or None, 10)
    children.stop()
    assert order.read_text().split() == ["worker", "lab"]
