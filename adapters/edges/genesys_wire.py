"""Genesys Cloud's answers as typed models (docs/platform-contract.md, "Genesys Cloud")."""

from __future__ import annotations

from ipaddress import ip_address

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from adapters.edges.counting import WireDirection
from adapters.edges.store import Stored, shown_leaf


class Answer(BaseModel):
    """camelCase on the wire; fields that we do not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Kept(Answer):
    """An object that goes back in a PUT: fields that we do not know are kept as they came."""

    model_config = ConfigDict(extra="allow")

    def body(self) -> dict[str, object]:
        """The object as it came, with what was changed since; nothing is added."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Certificate(Answer):
    """A certificate object. Never the key."""

    id: str
    name: str
    certificate: str | None = None
    sha256_fingerprint: str | None = Field(default=None, alias="sha256Fingerprint")
    state: str
    state_reason: str | None = None

    def stored(self) -> Stored:
        """As an entry of the store; the leaf comes from the PEM when there is no fingerprint."""
        return Stored(
            id=self.id,
            name=self.name,
            sha256=shown_leaf(self.sha256_fingerprint, self.certificate),
            valid=self.state == "VALID",
            reason=self.state_reason,
        )


class CertificatePage(Answer):
    """One page of the certificates."""

    entities: tuple[Certificate, ...]
    page_count: int
    total: int


class TlsCanary(Kept):
    """The SNI name that is served one certificate, whatever the pool prefers."""

    server_name: str
    certificate_id: str


class Trunk(Kept):
    """A trunk object (guide section 3)."""

    id: str
    version: int
    name: str
    enabled: bool
    certificate_ids: tuple[str, ...]
    sips_uri: str
    retransmission_timeout_seconds: int | None = None
    tls_cipher_suites: tuple[str, ...]
    tls_canary: TlsCanary | None = None
    mutual_tls: bool

    def canary_name(self) -> str | None:
        """`canary.<host of sipsUri>`; None when the URI holds an address, which SNI cannot carry (RFC 6066)."""
        hostport = self.sips_uri.partition(":")[2].rpartition("@")[2].partition(";")[0].partition("?")[0]
        host = hostport.partition(":")[0]
        try:
            ip_address(host)
        except ValueError:
            return f"canary.{host}" if host and not host.startswith("[") else None
        return None


class TrunkList(Answer):
    """All trunks of one edge."""

    entities: tuple[Trunk, ...]
    total: int


class Listener(Answer):
    """The edge's TLS listener."""

    status: str


class Validation(Answer):
    """The edge's validation of one certificate on one trunk."""

    sip_trunk_id: str
    certificate_id: str
    valid: bool
    reason: str | None = None


class Sessions(Answer):
    """Live calls of one trunk that were set up with one certificate."""

    sip_trunk_id: str
    certificate_id: str
    count: int = Field(ge=0)


class Health(Answer):
    """The guide's health answer of one edge."""

    edge_id: str
    status: str
    timestamp: AwareDatetime
    tls_listener: Listener
    tls_certificate_validation: tuple[Validation, ...]
    active_sessions: tuple[Sessions, ...]


class HandshakeFailure(Answer):
    """Handshakes that ended with one TLS alert or cause."""

    code: str
    count: int


class Handshakes(Answer):
    """Full handshakes."""

    attempts: int
    successes: int
    failures: tuple[HandshakeFailure, ...]


class CallFailure(Answer):
    """Initial INVITEs that ended with one SIP status."""

    sip_status: int
    count: int


class CallSetups(Answer):
    """Initial INVITEs."""

    attempts: int
    successes: int
    failures: tuple[CallFailure, ...]


class Counted(Answer):
    """Counts of one certificate, direction and peer."""

    certificate_id: str
    direction: WireDirection
    peer_address: str | None
    tls_handshakes: Handshakes
    call_setups: CallSetups


class Metrics(Answer):
    """The trunk's counts in one interval."""

    sip_trunk_id: str
    interval: str
    timestamp: AwareDatetime
    counters_since: AwareDatetime
    entities: tuple[Counted, ...]


class Flushed(Answer):
    """The answer of a ticket cache flush."""

    flushed_at: AwareDatetime


class Closed(Answer):
    """The answer of an orderly close."""

    closed_connections: int = Field(ge=0)


class Created(Answer):
    """What an upload answers, as far as the read-back needs it."""

    id: str
