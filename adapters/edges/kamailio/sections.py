"""Which sections of tls.cfg a profile owns: the trunk's, the canary's, and the client's for outbound calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapters.edges.kamailio.tls import Section, TlsConfig, lacks
from settings import KamailioProfile, PortCanary, SniCanary


@dataclass(frozen=True)
class Owned:
    """The sections whose certificate a rotation changes."""

    server: Section
    canary: Section | None
    client: Section | None

    @property
    def demands_certificate(self) -> bool:
        """Whether the trunk's listener lets nobody in without a certificate of his own (mutual TLS)."""
        required = (self.server.value("require_certificate") or "").lower() in {"yes", "1", "true", "on", "enabled"}
        return required or (self.server.value("verify_client") or "").lower() == "on"

    def all(self) -> Iterator[Section]:
        """Those that there are."""
        yield from (section for section in (self.server, self.canary, self.client) if section is not None)


def owned_by(tls: TlsConfig, profile: KamailioProfile) -> tuple[Owned | None, tuple[str, ...]]:
    """The sections, or None and what is wrong with the file, one sentence each."""
    problems: list[str] = []

    def one(what: str, found: Sequence[Section]) -> Section | None:
        if len(found) != 1:
            problems.append(f"{profile.tls_config} has {len(found) or 'no'} sections for {what}: it takes one")
            return None
        if missing := lacks(found[0]):
            problems.append(f"[{found[0].name}] of {profile.tls_config} has no {' and no '.join(missing)}: write them")
            return None
        return found[0]

    server = one(f"the trunk, [{profile.server}]", tls.named(profile.server))
    client = None if profile.client is None else one(f"outbound calls, [{profile.client}]", tls.named(profile.client))
    canary = None
    match profile.canary:
        case SniCanary(server_name=name):
            canary = one(f"the canary, server_name = {name}", tls.asked_for(name))
        case PortCanary(port=port):
            canary = one(f"the canary, [server:<address>:{port}]", tls.named(f"server:*:{port}"))
    if problems or server is None:
        return None, tuple(problems)
    return Owned(server, canary, client), ()
