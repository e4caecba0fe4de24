"""NICE CXone's answers as typed models (docs/platform-contract.md, "NICE CXone")."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from adapters.edges.counting import WireDirection
from adapters.edges.store import Stored, shown_leaf


class Answer(BaseModel):
    """camelCase on the wire; fields that we do not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Certificate(Answer):
    """A certificate object. Never the key."""

    certificate_id: str
    name: str
    certificate_data: str | None = None
    sha256: str | None = None
    status: str
    status_reason: str | None = None

    def stored(self) -> Stored:
        """As an entry of the store; the leaf comes from the PEM when there is no fingerprint."""
        return Stored(
            id=self.certificate_id,
            name=self.name,
            sha256=shown_leaf(self.sha256, self.certificate_data),
            valid=self.status == "Active",
            reason=self.status_reason,
        )


class CertificateList(Answer):
    """All certificates."""

    certificates: tuple[Certificate, ...]
    total_records: int


class Listeners(Answer):
    """The trunk's TLS ports. The secondary one serves the secondary certificate, or the primary without one."""

    model_config = ConfigDict(extra="allow")

    primary_port: int
    secondary_port: int


class Profile(Answer):
    """A trunk profile; it goes back in a PUT, so fields that we do not know are kept as they came."""

    model_config = ConfigDict(extra="allow")

    trunk_id: str
    version: int
    name: str
    enabled: bool
    primary_certificate_id: str
    secondary_certificate_id: str | None = None
    retransmission_timeout_seconds: int | None = None
    tls_cipher_suites: tuple[str, ...]
    mutual_tls: bool
    listeners: Listeners

    @property
    def bound(self) -> tuple[str, ...]:
        """The ids of the pool: primary, then secondary where there is one."""
        second = self.secondary_certificate_id
        return (self.primary_certificate_id,) if second is None else (self.primary_certificate_id, second)

    def body(self) -> dict[str, object]:
        """The profile as it came, with what was changed since; nothing is added."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class TrunkList(Answer):
    """All trunk profiles."""

    trunks: tuple[Profile, ...]
    total_records: int


class Validation(Answer):
    """The platform's validation of one certificate on the trunk."""

    certificate_id: str
    status: str
    reason: str | None = None


class ActiveCalls(Answer):
    """Live calls that were set up with one certificate."""

    certificate_id: str
    count: int = Field(ge=0)


class Health(Answer):
    """The system health of one trunk."""

    trunk_id: str
    timestamp: AwareDatetime
    tls_connectivity: str
    certificate_validation: tuple[Validation, ...]
    active_calls: tuple[ActiveCalls, ...]


class Counts(Answer):
    """Attempts (`total`), successes (`ok`) and failures by cause."""

    total: int
    ok: int
    failed: dict[str, int]


class Series(Answer):
    """Counts of one certificate, direction and peer."""

    certificate_id: str
    direction: WireDirection
    remote_address: str | None
    handshakes: Counts
    invites: Counts


class Metrics(Answer):
    """The trunk's counts in one window."""

    trunk_id: str
    start_date: str
    end_date: str
    timestamp: AwareDatetime
    counters_since: AwareDatetime
    series: tuple[Series, ...]


class Flushed(Answer):
    """The answer of a session cache flush."""

    flushed_at: AwareDatetime


class Closed(Answer):
    """The answer of an orderly close."""

    closed_connections: int = Field(ge=0)


class Created(Answer):
    """What an upload answers, as far as the read-back needs it."""

    certificate_id: str
