"""One node of an HAProxy edge: looked at as a whole, and changed so that files and run time say the same.

What is to serve is written to its file first, then at run time; what is not to be there any more goes the other way.
So whatever is in memory stands in a file as long as it can be served, and a process that ends between the two comes up
with something that the next look finds and puts right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from pydantic import SecretStr

from adapters.edges.haproxy import answers
from adapters.edges.haproxy.answers import Loaded, LoadedFiles, Process, Statistic
from adapters.edges.haproxy.pool_file import CANARY, OUTBOUND, POOL, Arrangement, Weights, arrangement, rewritten
from adapters.edges.haproxy.runtime import Command, Runtime
from adapters.edges.haproxy.slots import SLOTS, SlotFile, payload, placeholder, slot_file
from adapters.files.base import Files
from domain.errors import ConcurrentEdit, RequestRefused, UnexpectedAnswer

STAPLE: Final = ".ocsp"
"""Beside a certificate's file, by HAProxy's own rule: the OCSP response in DER that is stapled to it."""


@dataclass(frozen=True)
class Slot:
    """One slot: what its file says and what HAProxy has in memory; `path` is the file's name as HAProxy knows it."""

    file: SlotFile | None
    memory: Loaded | None
    path: str | None

    @property
    def leaf(self) -> str | None:
        """Leaf SHA-256 of what is served from here and stands in the file; None unless both are the same."""
        same = self.file is not None and self.memory is not None and self.file.sha1 == self.memory.sha1
        return self.file.leaf if same and self.file is not None else None

    @property
    def is_empty(self) -> bool:
        """Whether a placeholder, or nothing, stands in both."""
        return (self.file is None or self.file.is_placeholder) and (self.memory is None or self.memory.is_placeholder)

    def text(self) -> str:
        """For people."""
        if self.memory is None:
            return "nothing in memory"
        kept = "nothing" if self.file is None else f"SHA-1 {self.file.sha1}" if self.file.chain else "no certificate"
        return f"serial {self.memory.serial}, SHA-1 {self.memory.sha1} in memory; {kept} on disk"


@dataclass(frozen=True)
class OldWorker:
    """A worker from before a reload: it accepts nothing, and keeps the connections that it has."""

    pid: int
    statistics: tuple[Statistic, ...]
    memory: Mapping[str, Loaded | None]


@dataclass(frozen=True)
class NodeView:
    """A node as looked at. `pools` are the weights at run time, `arranged` those of the file."""

    name: str
    where: str
    process: Process
    statistics: tuple[Statistic, ...]
    pools: Mapping[str, Weights]
    loaded: LoadedFiles
    slots: Mapping[str, Slot]
    old: tuple[OldWorker, ...]
    pool_text: bytes
    arranged: Arrangement

    def slot_of(self, sha256: str) -> str | None:
        """The slot that serves this leaf."""
        return next((name for name, slot in self.slots.items() if slot.leaf == sha256), None)

    def slots_with(self, sha256: str) -> list[str]:
        """The slots whose file holds this leaf, served or not."""
        return [name for name, slot in self.slots.items() if slot.file is not None and slot.file.leaf == sha256]


class HaproxyNode:
    """One node of a listener. Methods raise what its files and its command line do, and what they say besides."""

    def __init__(self, name: str, listener: str, pool_file: str, files: Files, runtime: Runtime) -> None:
        self.name = name
        self.files = files
        self.runtime = runtime
        self._listener = listener
        self._pool_file = pool_file
        self._paths: dict[str, str | None] = {}

    def file_of(self, slot: str) -> str:
        """The file of a slot."""
        return f"{self._listener}-{slot}.pem"

    async def look(self) -> NodeView:
        """Everything at once: three files, one conversation and one for each old worker. Raises `UnexpectedAnswer`."""
        pool_text, contents, shown = await asyncio.gather(
            self.files.read(self._pool_file),
            asyncio.gather(*(self.files.read(self.file_of(slot)) for slot in SLOTS)),
            self._shown(),
        )
        if pool_text is None:
            raise UnexpectedAnswer(
                "there is no file of the pools",
                where=f"{self.files.where}/{self._pool_file}",
                action="set the edge up as in deploy/haproxy/README.md",
            )
        files = {slot: content for slot, content in zip(SLOTS, contents, strict=True) if content is not None}
        where = f"{self.files.where}/{self._pool_file}"
        return NodeView(
            name=self.name,
            where=self.runtime.where,
            process=shown.process,
            statistics=shown.statistics,
            pools=shown.pools,
            loaded=shown.loaded,
            slots={
                slot: Slot(
                    file=slot_file(files[slot]) if slot in files else None,
                    memory=shown.memory[slot],
                    path=self._paths[slot],
                )
                for slot in SLOTS
            },
            old=shown.old,
            pool_text=pool_text,
            arranged=arrangement(pool_text.decode(errors="surrogateescape"), self._listener, where),
        )

    async def load(self, view: NodeView, slot: str, content: SecretStr) -> None:
        """The certificate into a slot: the file unless it holds the same, then the memory."""
        wanted, there = slot_file(content.get_secret_value().encode()), view.slots[slot]
        if there.file != wanted:
            await self.files.remove(self.file_of(slot) + STAPLE)
            await self.files.write(self.file_of(slot), content.get_secret_value().encode())
        if there.memory is None or there.memory.sha1 != wanted.sha1:
            await self._commit(view, slot, [("", payload(content))])

    async def clear(self, view: NodeView, slot: str) -> None:
        """A placeholder into a slot: memory first, then the file; the key is gone from both.

        The staple goes before: HAProxy does not start with one beside a certificate that it cannot belong to.
        """
        there, empty = view.slots[slot], placeholder()
        if there.memory is None or not there.memory.is_placeholder:
            await self._commit(view, slot, [("", payload(empty))])
        await self.files.remove(self.file_of(slot) + STAPLE)
        if there.file is None or not there.file.is_placeholder:
            await self.files.write(self.file_of(slot), empty.get_secret_value().encode())

    async def staple(self, view: NodeView, slot: str, der: bytes, base64_text: str) -> None:
        """An OCSP response, stapled from the next handshake on, and then kept for a restart."""
        name = self.file_of(slot) + STAPLE
        await self._commit(view, slot, [(STAPLE, SecretStr(base64_text))])
        if await self.files.read(name) != der:
            await self.files.write(name, der)

    async def arrange(self, view: NodeView, wanted: Arrangement, commands: Sequence[str]) -> None:
        """The pools: the file, if it says something else, then the commands that change the same at run time.

        Raises `ConcurrentEdit` when the file is not as it was looked at, or not as written when run time has its turn.
        """
        text = rewritten(view.pool_text.decode(errors="surrogateescape"), self._listener, wanted)
        content = text.encode(errors="surrogateescape")
        await self._unchanged(view.pool_text)
        if content != view.pool_text:
            await self.files.write(self._pool_file, content)
        if commands:
            await self._unchanged(content)
            await self.runtime.set([Command(command) for command in commands])

    async def other_files_with(self, sha1: str) -> list[str]:
        """What else HAProxy has loaded with that leaf, as it names the files. Two requests."""
        (listed,) = await self.runtime.ask([Command("show ssl cert")])
        others = [file for file in answers.loaded_files(listed, self.runtime.where).files if not self._is_ours(file)]
        said = await self.runtime.ask([Command(f"show ssl cert {file}") for file in others]) if others else []
        found = [answers.loaded(answer) for answer in said]
        return [file for file, one in zip(others, found, strict=True) if one is not None and one.sha1 == sha1]

    async def close(self) -> None:
        """Closes what is open."""
        await self.files.close()
        await self.runtime.close()

    async def _unchanged(self, expected: bytes) -> None:
        if await self.files.read(self._pool_file) != expected:
            raise ConcurrentEdit(
                "somebody else wrote the file of the pools",
                where=f"{self.files.where}/{self._pool_file}",
                action="read it again; nobody writes it while a rotation runs",
            )

    async def _commit(self, view: NodeView, slot: str, parts: Sequence[tuple[str, SecretStr]]) -> None:
        """One transaction for a slot's certificate. What ours left open before, if anything, is dropped first."""
        where, path = self.runtime.where, view.slots[slot].path
        if path is None:
            raise UnexpectedAnswer(
                "HAProxy has no such certificate", where=where, seen=f"{self.file_of(slot)} is not in `show ssl cert`"
            )
        ours = [other.path for other in view.slots.values() if other.path is not None]
        foreign = [file for file in view.loaded.uncommitted if not any(file.startswith(one) for one in ours)]
        if foreign:
            raise ConcurrentEdit("somebody else changes certificates", where=where, seen=", ".join(foreign))
        aborts = [Command(f"abort ssl cert {one}") for one in ours]
        sets = [Command(f"set ssl cert {path}{suffix}", payload=content) for suffix, content in parts]
        said = await self.runtime.change([*aborts, *sets, Command(f"commit ssl cert {path}")])
        if "Success!" not in said[-1]:
            secret = {line for _, content in parts for line in content.get_secret_value().splitlines()}
            seen = [line for answer in said[len(aborts) :] for line in answer.splitlines() if line not in secret]
            raise RequestRefused("HAProxy does not take the certificate", where=where, seen="; ".join(seen))

    def _is_ours(self, path: str) -> bool:
        return any(_named(path, self.file_of(slot)) for slot in SLOTS)

    async def _shown(self) -> _Shown:
        where = self.runtime.where
        first = [
            Command("show proc", worker=""),
            Command("show info"),
            Command("show stat"),
            Command("show servers state"),
            Command("show ssl cert"),
        ]
        known = dict(self._paths)
        said = await self.runtime.ask([*first, *self._details(known)])
        proc, info, stat, states, listed = said[: len(first)]
        old = answers.old_workers(proc, where)
        loaded = answers.loaded_files(listed, where)
        self._paths = {slot: _path(loaded, self.file_of(slot)) for slot in SLOTS}
        details = said[len(first) :]
        if self._paths != known:
            details = await self.runtime.ask(self._details(self._paths))
        workers = await asyncio.gather(*(self._old(pid) for pid in old))
        return _Shown(
            process=answers.process(info, where),
            statistics=answers.statistics(stat, where),
            pools=self._pools(answers.server_states(states, where)),
            loaded=loaded,
            memory=self._memory(details),
            old=tuple(worker for worker in workers if worker is not None),
        )

    def _details(self, paths: Mapping[str, str | None]) -> list[Command]:
        """One question for each slot; none before the files' names are known."""
        return [Command(f"show ssl cert {paths[slot] or '-'}") for slot in SLOTS] if paths else []

    def _memory(self, details: Sequence[str]) -> dict[str, Loaded | None]:
        return {slot: answers.loaded(answer) for slot, answer in zip(SLOTS, details, strict=True)}

    async def _old(self, pid: int) -> OldWorker | None:
        """A worker from before a reload; None when it has ended since it was listed."""
        said = await self.runtime.ask_old(pid, ["show stat", *(one.text for one in self._details(self._paths))])
        if said is None:
            return None
        return OldWorker(pid, answers.statistics(said[0], self.runtime.where), self._memory(said[1:]))

    def _pools(self, states: Sequence[answers.ServerState]) -> dict[str, dict[str, int | None]]:
        pools: dict[str, dict[str, int | None]] = {}
        for state in states:
            for pool in (POOL, CANARY, OUTBOUND):
                if state.pool == f"{self._listener}-{pool}":
                    pools.setdefault(pool, {})[state.name] = state.weight
        return pools


@dataclass(frozen=True)
class _Shown:
    """What the command line says."""

    process: Process
    statistics: tuple[Statistic, ...]
    pools: Mapping[str, Weights]
    loaded: LoadedFiles
    memory: Mapping[str, Loaded | None]
    old: tuple[OldWorker, ...]


def _path(loaded: LoadedFiles, name: str) -> str | None:
    """The file's name as HAProxy knows it: the one that a runtime command has to give."""
    return next((file for file in loaded.files if _named(file, name)), None)


def _named(path: str, name: str) -> bool:
    return PurePosixPath(path).name == name
