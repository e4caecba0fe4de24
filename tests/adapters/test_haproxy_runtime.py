"""The command line's wire form, its failures, and the closing of connections, against a scripted master."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.edges.haproxy import closing
from adapters.edges.haproxy.runtime import Command, Runtime, old_worker
from adapters.fence import acting_within
from domain.errors import PermissionMissing, RequestRefused, TooLate, Unreachable
from settings import HaproxyHost

PROC = "# workers\n1 worker 0 0d00h00m00s 2.6.12\n# old workers\n7 worker 1 0d00h00m00s 2.6.12\n"


@dataclass
class Master:
    """Answers each line with `answer`, whose text is sent with an empty line after it; None ends the connection."""

    answer: Callable[[str], str | None]
    lines: list[str] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        payload = False
        while line := (await reader.readline()).decode():
            if payload:
                payload = line != "\n"
                continue
            self.lines.append(line.strip())
            payload = line.endswith("<<\n")
            said = self.answer(line.strip())
            if said is None:
                break
            writer.write(f"{said}\n\n".encode() if said else b"\n")
        writer.close()
        await writer.wait_closed()

    async def ended(self) -> None:
        """Waits until all connections have ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def master(folder: Path, answer: Callable[[str], str | None]) -> AsyncIterator[tuple[Master, Runtime]]:
    """A scripted master and the runtime that speaks to it."""
    scripted = Master(answer)
    server = await asyncio.start_unix_server(scripted.serve, folder / "m")
    async with server:
        yield scripted, Runtime(host(f"unix:{folder / 'm'}"), 0.5, "node")
        await scripted.ended()


def host(runtime: str) -> HaproxyHost:
    files = {"kind": "local", "directory": "/sip"}
    return HaproxyHost.model_validate({"name": "node", "runtime": runtime, "files": files})


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose sockets have short names."""
    return tmp_path_factory.mktemp("s")


def test_a_payload_has_no_empty_line_inside_and_one_at_its_end() -> None:
    key = SecretStr("-----BEGIN X-----\n\nabc\n-----END X-----\n\n")
    command = Command("set ssl cert /sip/one.pem", payload=key)
    assert command.wire() == b"@1 set ssl cert /sip/one.pem <<\n-----BEGIN X-----\nabc\n-----END X-----\n\n"
    assert Command("show proc", worker="").wire() == b"show proc\n"
    assert Command("show stat", worker=old_worker(7)).wire() == b"@!7 show stat\n"
    assert "abc" not in repr(command)


async def test_each_command_has_its_answer(short: Path) -> None:
    async with master(short, lambda line: "" if "set" in line else f"to {line}\nmore") as (scripted, runtime):
        payload = Command("set ssl cert x", payload=SecretStr("a\nb"))
        said = await runtime.ask([Command("show info"), payload, Command("show stat", worker="")])
        assert said == ["to @1 show info\nmore", "", "to show stat\nmore"]
        assert scripted.lines == ["@1 show info", "@1 set ssl cert x <<", "show stat"]
        await runtime.set([Command("set server a/b weight 1")])
    async with master(short, lambda line: "No such server.") as (_, runtime):
        with pytest.raises(RequestRefused, match="No such server"):
            await runtime.set([Command("set server a/b weight 1")])
        with acting_within(0), pytest.raises(TooLate):
            await runtime.set([Command("set server a/b weight 1")])


async def test_silence_and_an_early_end_are_unreachable(short: Path) -> None:
    async with master(short, lambda line: None) as (_, runtime):
        with pytest.raises(Unreachable, match="ended before the answer"):
            await runtime.ask([Command("show info")])

    gone = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_unix_server(never, short / "silent")
    async with server:
        with pytest.raises(Unreachable, match=r"no answer within 0\.5 s"):
            await Runtime(host(f"unix:{short / 'silent'}"), 0.5, "node").ask([Command("show info")])
        await gone.wait()


async def test_a_socket_that_is_not_for_us_is_a_missing_permission(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio, "open_unix_connection", refused)
    with pytest.raises(PermissionMissing, match="group and mode 660"):
        await Runtime(host(f"unix:{short / 'm'}"), 0.5, "node").ask([Command("show info")])


async def test_an_old_worker_that_ends_while_it_is_asked_has_ended(short: Path) -> None:
    """It is listed for a moment more, and its connections break off."""
    listed = [PROC, PROC, PROC.replace("7 worker", "8 worker")]
    async with master(short, lambda line: listed.pop(0) if line == "show proc" else None) as (_, runtime):
        assert await runtime.ask_old(7, ["show stat"]) is None
        assert listed == []
    async with master(short, lambda line: "Can't find the target PID matching the prefix '@!7'") as (_, runtime):
        assert await runtime.ask_old(7, ["show stat"]) is None
    async with master(short, lambda line: f"{line}!") as (_, runtime):
        assert await runtime.ask_old(7, ["show stat"]) == ["@!7 show stat!"]
    async with master(short, lambda line: PROC if line == "show proc" else None) as (_, runtime):
        with pytest.raises(Unreachable):
            await runtime.ask_old(7, ["show stat"])


# -- closing -----------------------------------------------------------------------------------------------------------


@dataclass
class Sessions:
    """Open sessions by id: how often each has been worked on, and whether it is again between two looks."""

    open: dict[str, int]
    busy: set[str] = field(default_factory=set)
    shut: list[list[str]] = field(default_factory=list)
    looks: int = 0

    def answer(self, line: str) -> str:
        if line == "@1 show sess":
            self.looks += 1
            self.shut.append([])
            for session in self.busy & self.open.keys():
                self.open[session] += 1
            return "\n".join(
                f"{session}: proto=x fe=trunk-tls-one be=trunk-sip-one srv=sip calls={calls} rate=1"
                for session, calls in self.open.items()
            )
        session = line.split()[-1]
        self.shut[-1].append(session)
        return "" if self.open.pop(session, None) is not None else "No such session (use 'show sess')."


async def closed_of(runtime: Runtime) -> int:
    worker = closing._Worker(runtime, None, [("trunk-tls-one", "trunk-sip-one")])
    return await closing._closed(worker)


async def test_a_connection_is_closed_when_it_rests_and_at_the_last_look_in_any_case(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "APART_S", 0.001)
    sessions = Sessions({"0xa": 3, "0xb": 5, "0xc": 7}, busy={"0xb"})
    async with master(short, sessions.answer) as (_, runtime):
        assert await closed_of(runtime) == 3
    assert sessions.shut == [[], ["0xa", "0xc"], [], [], [], ["0xb"]]


async def test_where_nothing_is_open_one_look_is_enough(short: Path) -> None:
    sessions = Sessions({})
    async with master(short, sessions.answer) as (_, runtime):
        assert await closed_of(runtime) == 0
    assert sessions.looks == 1


async def test_a_connection_that_ended_by_itself_was_not_closed_by_us(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "APART_S", 0.001)
    sessions = Sessions({"0xa": 3})
    real = sessions.answer

    def gone_by_then(line: str) -> str:
        if "shutdown" in line:
            sessions.open.clear()
        return real(line)

    async with master(short, gone_by_then) as (_, runtime):
        assert await closed_of(runtime) == 0
