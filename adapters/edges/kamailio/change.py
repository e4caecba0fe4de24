"""Bringing one Kamailio node to a change: tls.cfg written once and loaded, or left exactly as it was.

The order is what makes it safe to die at any point: Kamailio is told first that its file may be newer than what it has
loaded, then the file is written, then loaded, then Kamailio is told what that was. A restart loads the file as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from adapters.edges.base import TrunkChange
from adapters.edges.kamailio.host import KamailioNode, RpcRefused
from adapters.edges.kamailio.look import PENDING, Look
from adapters.edges.kamailio.store import Kept
from adapters.edges.kamailio.tls import CERTIFICATE, PRIVATE_KEY, Note, Section, TlsConfig, file_name
from domain.certificate_path import valid_at
from domain.errors import ConcurrentEdit, NotAsWritten, RequestRefused, Unreachable
from domain.rotation import short

PREVIOUS: Final = ".previous"
"""What stood in tls.cfg before the last switch lies beside it under this suffix."""

RELOADS: Final = 5
"""How often a load is asked for until Kamailio takes it. The processes of a 5.6 share OpenSSL's error queue (Kamailio's
issue 3695): what fails on a connection of one of them can make a good file look bad to the one that loads it."""


async def bring(node: KamailioNode, tls_config: str, look: Look, change: TrunkChange, now: datetime) -> Look:
    """The node as read back: it serves what the change says, and its files say so too.

    Raises `RequestRefused` when a certificate is not there or could not serve, or when Kamailio refuses to load the
    file – then file and process are as before –, `ConcurrentEdit` when the file is not any more as it was looked at,
    and `NotAsWritten`.
    """
    wanted = look.wanted(change)
    if not wanted.pool:
        raise RequestRefused(
            "an empty pool is never written: the trunk would stand without a certificate", where=node.where
        )
    _all_uploaded(look, wanted)
    switched = look.to_switch(wanted)
    noted = (look.note.pool, look.note.canary) == (wanted.pool, wanted.canary)
    if not switched and noted and look.in_force and not change.always:
        return look
    new = look.tls
    if switched or not noted or change.always:
        new = look.tls.with_certificates(await _lines(node, look, switched, now), wanted)
    await _write_and_load(node, tls_config, look, new)
    return await _read_back(node, wanted)


def _all_uploaded(look: Look, wanted: Note) -> None:
    there = {kept.sha256 for kept in look.kept}
    for sha256 in filter(None, (*wanted.pool, wanted.canary)):
        if sha256 not in there:
            raise RequestRefused(
                "a certificate is not uploaded to the node",
                where=look.where,
                seen=f"no certificate with leaf SHA-256 {sha256}",
                action="upload it before it is bound",
            )


async def _lines(
    node: KamailioNode, look: Look, switched: Sequence[tuple[Section, str]], now: datetime
) -> list[tuple[Section, str, str]]:
    """Each section with the files that it is to name. Raises `RequestRefused` for what could not serve."""
    files = {leaf: await _files(node, look, leaf, now) for _, leaf in switched}
    return [(section, *files[leaf]) for section, leaf in switched]


async def _files(node: KamailioNode, look: Look, sha256: str, now: datetime) -> tuple[str, str]:
    kept = next(kept for kept in look.kept if kept.sha256 == sha256)
    if not valid_at(kept.chain[0], now):
        raise RequestRefused(
            "a certificate outside its validity is not served: Kamailio would take it, and carriers would not",
            where=node.where,
            seen=f"{kept.file}: until {kept.chain[0].not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        )
    key = await node.store.key_file(kept, _noted_key(look.tls, kept))
    if key is None:
        raise RequestRefused(
            "a certificate has no key of its own in the directory",
            where=node.where,
            seen=kept.file,
            action="upload it again",
        )
    return kept.file, key


def _noted_key(tls: TlsConfig, kept: Kept) -> str | None:
    """The key that a section names beside this chain."""
    named = (s for s in tls.sections if file_name(s.value(CERTIFICATE)) == kept.file)
    return next((file_name(section.value(PRIVATE_KEY)) for section in named), None)


async def _write_and_load(node: KamailioNode, tls_config: str, look: Look, new: TlsConfig) -> None:
    changed = new.digest != look.tls.digest
    load = changed or not look.in_force
    if load:
        await node.note_loaded(PENDING)
    if changed:
        await node.files.write(tls_config + PREVIOUS, look.tls.content)
    if await node.files.read(tls_config) != look.tls.content:
        raise ConcurrentEdit(f"somebody else changed {tls_config} in between", where=node.where, action="read it again")
    if new.content != look.tls.content:
        await node.files.write(tls_config, new.content)
    if not load:
        return
    message = ""
    for _ in range(RELOADS):
        try:
            await node.ask("tls.reload", object)
        except RpcRefused as refused:
            message = refused.message
        else:
            await node.note_loaded(new.digest)
            return
    before = look.tls.content if changed else await node.files.read(tls_config + PREVIOUS)
    raise await _refused(node, tls_config, before, message)


async def _refused(node: KamailioNode, tls_config: str, before: bytes | None, message: str) -> RequestRefused:
    """The file back to what Kamailio still runs: with the refused one a restart would not come up at all."""
    if before is not None:
        await node.files.write(tls_config, before)
        await node.note_loaded(TlsConfig(before).digest)
    return RequestRefused(
        "Kamailio refuses to load the TLS configuration; it runs on with the one before"
        + ("" if before is None else ", and so says its file again"),
        where=node.where,
        seen=f"{message}, {RELOADS} times",
        action="see Kamailio's log: a file that its user may not read, for example",
    )


async def _read_back(node: KamailioNode, wanted: Note) -> Look:
    after = await node.look()
    if after.served is None or (after.owned.canary is not None and after.canary_served is None):
        raise Unreachable("the node does not serve after the change", where=node.where, action="look at its log")
    canary = None if after.owned.canary is None else wanted.canary or wanted.pool[0]
    pairs = {
        "served": (after.served, wanted.pool[0]),
        "canary": (after.canary_served, canary),
        "pool": (after.pool, wanted.pool),
    }
    differences = [
        f"{what} {_text(seen)}, not {_text(meant)}" for what, (seen, meant) in pairs.items() if seen != meant
    ]
    if differences or not after.in_force:
        raise NotAsWritten(
            "the node does not serve what was written",
            where=node.where,
            seen="; ".join(differences) or "another TLS configuration is loaded than is written",
            action="find out who else writes or loads it",
        )
    return after


def _text(leaves: str | tuple[str, ...] | None) -> str:
    if isinstance(leaves, tuple):
        return "[" + ", ".join(map(short, leaves)) + "]"
    return "nothing" if leaves is None else short(leaves)
