"""Uploading once: look first, adopt what is there, send, look again on a conflict, read back (promise 6).

A response may be lost at any point; the repetition finds the certificate by its leaf, whatever its name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from adapters.edges.base import PlatformCertificate
from adapters.edges.store import Store, Stored, leaf_sha256
from domain.errors import NotAsWritten, RequestRefused


async def upload_once(
    name: str,
    chain_pem: str,
    *,
    where: str,
    store: Callable[[], Awaitable[Store]],
    register: Callable[[], Awaitable[str | None]],
    stored: Callable[[str], Awaitable[Stored]],
) -> PlatformCertificate:
    """The certificate as the platform keeps it, whether it was there or is sent now.

    `store` lists everything, `register` sends the certificate and gives its id, or None when the platform says that
    the name is taken, `stored` reads one entry. Raises `RequestRefused` when the chain holds no certificate or the
    name belongs to another leaf, `NotAsWritten` when the platform shows another leaf than was sent.
    """
    sha256 = leaf_sha256(chain_pem)
    if sha256 is None:
        raise RequestRefused("the chain holds no certificate", where=where, seen=f"{len(chain_pem)} characters")
    there = _adopted(await store(), sha256, where=where, name=name)
    if there is not None:
        return there
    certificate_id = await register()
    if certificate_id is None:
        there = _adopted(await store(), sha256, where=where, name=name)
        if there is not None:
            return there
        raise RequestRefused(
            "the platform says that the name is taken, and does not show by what",
            where=where,
            seen=name,
            action="look at the platform's certificates with that name",
        )
    shown = await stored(certificate_id)
    certificate = shown.certificate()
    if certificate is None or certificate.sha256 != sha256:
        raise NotAsWritten(
            "the platform shows another leaf than was uploaded",
            where=where,
            seen=f"{shown.name} ({shown.id}): {shown.sha256 or 'no readable leaf'}, sent {sha256}",
            action="look at the certificate on the platform before the upload is repeated",
        )
    return certificate


def _adopted(store: Store, sha256: str, *, where: str, name: str) -> PlatformCertificate | None:
    there = store.find(sha256)
    if there is not None:
        return there
    other = store.named(name)
    if other is None:
        return None
    raise RequestRefused(
        f"the name {name} is taken by another certificate",
        where=where,
        seen=f"{other.id}: leaf {other.sha256 or 'not readable'}, ours is {sha256}",
        action="delete that certificate from the platform if nothing uses it",
    )
