"""The plan: what is rotated, where, by which thresholds and in which times. It holds names, never secrets.

Read from TOML, validated here, sent to the workflow as it is. Durations are written `72h`, `15m`, `30s`, `500ms`, `1d`.
The limits that a lab may undercut are enforced by the worker at PREFLIGHT (`limits_undercut`), because only the worker
knows which profiles are marked `lab = true`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
import tomllib
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from domain.errors import PlanInvalid
from domain.validation import describe_problems

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def _duration(value: object) -> object:
    if isinstance(value, timedelta) or (isinstance(value, str) and value.startswith("P")):
        return value
    parts = _DURATION.findall(value) if isinstance(value, str) else []
    if not parts or _DURATION.sub("", str(value)).strip():
        raise ValueError(f"{value!r} is not a duration; write for example 72h, 15m, 30s or 500ms")
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError(f"{value!r} is too long for a duration") from None


def duration_text(value: timedelta) -> str:
    """`timedelta` as a plan writes it, for example `72h`, `15m` or `1h30m`."""
    microseconds = value // timedelta(microseconds=1)
    if microseconds % 1_000_000:
        whole, rest = divmod(microseconds, 1000)
        return f"{whole}.{rest:03}ms" if rest else f"{whole}ms"
    text, rest = "", microseconds // 1_000_000
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(duration_text, return_type=str),
    Field(ge=timedelta(0)),
]
PositiveDuration = Annotated[Duration, Field(gt=timedelta(0))]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
HostName = Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")]


class PlanModel(BaseModel):
    """Unknown keys are errors; nothing is changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyType(StrEnum):
    """Key types that a trunk certificate may have."""

    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    EC_P256 = "ec-p256"


class TrunkRole(StrEnum):
    """What the platform is on this trunk's TLS: server (inbound), client (outbound, mutual TLS), or both."""

    SERVER = "server"
    CLIENT = "client"
    MUTUAL = "mutual"


class Direction(StrEnum):
    """Seen from the platform: the carrier connects to us (inbound), or we to the carrier (outbound)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Topology(StrEnum):
    """How carriers find the trunk, and so what "prefer B" means (guide section 4, step 6)."""

    SAME_LISTENER = "same_listener"
    SEPARATE_SRV_TARGETS = "separate_srv_targets"
    STATIC_IP = "static_ip"


class CertificateSpec(PlanModel):
    """What B must be. Its SANs equal A's, which PREFLIGHT reads, and must cover every FQDN and address of the plan."""

    common_name: HostName
    dns_names: Annotated[tuple[HostName, ...], Field(min_length=1)]
    ip_addresses: tuple[str, ...] = ()
    key_type: KeyType = KeyType.RSA_2048
    lifetime: PositiveDuration | None = Field(
        default=None, description="validity asked of the PKI; default: what its role gives, buffers included"
    )
    ca: Name = Field(description="settings profile under [pki.…] that signs B")
    custody: Name = Field(description="settings profile under [keys.…] that keeps B's key")
    also_used_by: tuple[str, ...] = Field(
        default=(), description="trunks outside this plan that present A too; A is not revoked under them"
    )

    @model_validator(mode="after")
    def _addresses_are_addresses(self) -> Self:
        for address in self.ip_addresses:
            ipaddress.ip_address(address)
        return self


class Node(PlanModel):
    """One address on which the trunk's TLS listener answers; every node is read and probed."""

    address: str = Field(description="IP address or host name to connect to")
    port: Annotated[int, Field(ge=1, le=65535)] = 5061
    target: HostName | None = Field(default=None, description="the SRV target that leads here, if any")


class SrvPreference(PlanModel):
    """The SRV record set whose priorities say which target, A's or B's, carriers prefer (RFC 2782)."""

    dns: Name = Field(description="settings profile under [dns.…]")
    name: HostName = Field(description="owner name, for example _sips._tcp.trunk.example.com")
    target_a: HostName
    target_b: HostName
    preferred_priority: Annotated[int, Field(ge=0, le=65535)] = 10
    other_priority: Annotated[int, Field(ge=0, le=65535)] = 20

    @model_validator(mode="after")
    def _preferred_comes_first(self) -> Self:
        if self.preferred_priority >= self.other_priority:
            raise ValueError("preferred_priority must be lower than other_priority: SRV prefers the lowest (RFC 2782)")
        if self.target_a == self.target_b:
            raise ValueError("target_a and target_b must differ")
        return self


class Substitutes(PlanModel):
    """What stands in for what the endpoint's platform cannot do; PREFLIGHT refuses one that is not needed."""

    handshakes: Literal["carrier"] | None = Field(
        default=None,
        description="the platform does not tell failed handshakes per certificate: the carrier's figures and our own "
        "prober stand in",
    )
    call_setups: Literal["carrier"] | None = Field(
        default=None, description="the platform does not count call setups per certificate: the carrier's figures do"
    )
    pool: Literal["switch"] | None = Field(
        default=None, description="one certificate per listener: to prefer B is to switch to it"
    )
    canary: Literal["blind_switch"] | None = Field(
        default=None, description="no way to be served B before it is preferred; needs approvals.prefer = true"
    )


class Authority(PlanModel):
    """Whose figures of our side each gate believes, where an endpoint has a second source: the platform's own, or those
    of the endpoint's `metrics`. The other one may not contradict it."""

    soak: Literal["platform", "metrics"] = "platform"
    verify: Literal["platform", "metrics"] = "platform"
    adopt: Literal["platform", "metrics"] = "platform"


class TrunkObserver(PlanModel):
    """A platform that sees the trunk from its other side; for example Genesys Cloud behind a customer's SBC (BYOC)."""

    profile: Name = Field(description="settings profile under [observers.…]")
    trunk: Annotated[str, Field(min_length=1)] = Field(description="the observer's own id of the trunk")
    down_for: Annotated[Duration, Field(le=timedelta(minutes=2))] = Field(
        default=timedelta(seconds=10), description="what is down for less may be a flap: INCONCLUSIVE, not yet FAIL"
    )
    stale_after: Annotated[PositiveDuration, Field(le=timedelta(hours=1))] = Field(
        default=timedelta(minutes=5), description="older reports of the trunk are no reports"
    )


class Endpoint(PlanModel):
    """One trunk endpoint: a trunk on a platform, the nodes it answers on and the carrier on its other side."""

    name: Name
    platform: Name = Field(description="settings profile under [platforms.…]")
    trunk: str = Field(description="the platform's id of the trunk; Genesys: <edgeId>/<sipTrunkId>")
    fqdn: HostName = Field(description="the SIP domain that the carrier verifies (RFC 5922)")
    role: TrunkRole = TrunkRole.SERVER
    topology: Topology = Topology.SAME_LISTENER
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]
    peers: Annotated[tuple[str, ...], Field(min_length=1, description="the carrier's signalling addresses")]
    probe_addresses: tuple[str, ...] = Field(
        default=(), description="addresses from which our own probes reach the platform; counted as synthetic"
    )
    carrier: Name = Field(description="settings profile under [carriers.…]")
    carrier_trunk: str = Field(description="the carrier's name of this trunk in its health API")
    test_call: str | None = Field(default=None, description="SIP URI that a test call on the canary path may ring")
    srv: SrvPreference | None = None
    ramp: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(
        default=(),
        max_length=10,
        description="percentages of new connections that B gets, rising, before it gets all; for edges with weights",
    )
    substitutes: Substitutes = Substitutes()
    observer: TrunkObserver | None = None
    metrics: Name | None = Field(
        default=None, description="settings profile under [metrics.…] that counts our side of the trunk a second time"
    )
    authority: Authority = Authority()

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions in which the platform presents this certificate."""
        both = (Direction.INBOUND, Direction.OUTBOUND)
        return {TrunkRole.SERVER: both[:1], TrunkRole.CLIENT: both[1:], TrunkRole.MUTUAL: both}[self.role]

    @model_validator(mode="after")
    def _topology_is_complete(self) -> Self:
        if self.topology is Topology.SEPARATE_SRV_TARGETS:
            if self.srv is None:
                raise ValueError("topology separate_srv_targets needs the table [endpoints.srv]")
            targets = {node.target for node in self.nodes}
            missing = {self.srv.target_a, self.srv.target_b} - targets
            if missing:
                raise ValueError(f"no node has target = {', '.join(sorted(missing))}, which [endpoints.srv] names")
            if self.role is not TrunkRole.SERVER:
                raise ValueError(
                    "separate_srv_targets works with role = server only: the SRV record steers inbound connections, "
                    "while the client certificate follows the pool order; use same_listener"
                )
        elif self.srv is not None:
            raise ValueError(f"[endpoints.srv] is for topology separate_srv_targets, not {self.topology}")
        return self

    @model_validator(mode="after")
    def _who_is_believed_exists(self) -> Self:
        if self.metrics is None and self.authority != Authority():
            raise ValueError('authority names metrics, and the endpoint has none: add metrics = "<profile>"')
        return self

    @model_validator(mode="after")
    def _ramp_rises(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.ramp)):
            raise ValueError(f"ramp must rise from step to step, for example [5, 25, 50]; seen {list(self.ramp)}")
        if self.ramp and self.topology is Topology.SEPARATE_SRV_TARGETS:
            raise ValueError("ramp divides one listener's connections; with separate_srv_targets the SRV record steers")
        return self


class Thresholds(PlanModel):
    """When a gate passes and when the guard turns back (guide section 4). Shares are 0–1."""

    success: Share = Field(
        default=0.995, lt=1.0, description="gates pass above this (VERIFY) or at least at this (SOAK)"
    )
    breach: Share = Field(default=0.98, description="the guard turns back below this")
    adopt_share: Share = Field(default=0.85, description="share of new calls on B that ends ADOPT")
    minimum_sample: Annotated[int, Field(ge=1)] = 600
    guard_sample: Annotated[int, Field(ge=1)] = 100
    consecutive_alerts: Annotated[int, Field(ge=1)] = 5
    consecutive_failures: Annotated[int, Field(ge=1)] = Field(
        default=20, description="handshakes or call setups in a row that fail for whatever reason: the guard turns back"
    )
    setup_margin: Share = Field(default=0.005, description="how much call setup on B may lie below A's")
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] | None = Field(
        default=None,
        description="one-sided confidence with which a share must reach `success`; default: the share itself",
    )
    contradiction: Share = Field(default=0.01, description="how much two sources' shares of successes may differ")
    contradiction_traffic: Share = Field(default=0.25, description="how much two sources' attempts may differ")

    @model_validator(mode="after")
    def _breach_lies_below_success(self) -> Self:
        if self.breach >= self.success:
            raise ValueError("breach must lie below success, or a gate could pass while the guard turns back")
        return self


class Timings(PlanModel):
    """How long each wait lasts and how often it is looked at (DESIGN.md, phases)."""

    soak: PositiveDuration = timedelta(minutes=15)
    overlap: PositiveDuration = timedelta(hours=72)
    hold: PositiveDuration = timedelta(hours=24)
    guard_hot: PositiveDuration = Field(default=timedelta(seconds=5), description="guard's interval around changes")
    guard_overlap: PositiveDuration = Field(default=timedelta(seconds=60), description="guard's interval in waits")
    guard_window: PositiveDuration = timedelta(seconds=60)
    guard_window_limit: PositiveDuration = timedelta(minutes=15)
    stale_after: PositiveDuration = Field(default=timedelta(seconds=60), description="older answers are no answers")
    gate_interval: PositiveDuration = timedelta(seconds=10)
    readiness_deadline: PositiveDuration = timedelta(minutes=5)
    soak_grace: PositiveDuration = timedelta(minutes=15)
    verify_deadline: PositiveDuration = timedelta(hours=2)
    ramp_step: PositiveDuration = Field(
        default=timedelta(minutes=5), description="how long PREFER stays on each step of an endpoint's ramp"
    )
    adopt_window: PositiveDuration = timedelta(minutes=15)
    adopt_deadline: PositiveDuration = timedelta(hours=48)
    drain_spacing: PositiveDuration = Field(default=timedelta(seconds=30), description="between the two zeros of DRAIN")
    drain_deadline: PositiveDuration = timedelta(hours=12)
    close_connections_after: PositiveDuration | None = Field(
        default=None,
        description="how long VERIFY, ADOPT or DRAIN wait before connections that keep A are closed in an orderly way; "
        "for carriers that are known to connect again. Default: never, a person decides",
    )
    action_deadline: PositiveDuration = Field(
        default=timedelta(minutes=10), description="how long a forward side effect may be retried before turning back"
    )
    late_request: PositiveDuration = Field(
        default=timedelta(seconds=30), description="the longest time in which a lost request could still land"
    )
    expiry_margin: PositiveDuration = Field(
        default=timedelta(hours=24), description="A must stay valid this long after the end of HOLD"
    )
    expiry_alerts: Annotated[tuple[PositiveDuration, ...], Field(max_length=8)] = Field(
        default=(timedelta(days=7), timedelta(days=3), timedelta(days=1)),
        description="so long before A expires people are told, as long as A is needed",
    )
    blind_rollback_after: PositiveDuration | None = Field(
        default=None, description="how long the guard may be blind before the rotation turns back. Default: for ever"
    )

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.guard_window_limit < self.guard_window:
            raise ValueError("guard_window_limit must not be shorter than guard_window")
        return self


class Approvals(PlanModel):
    """Which steps wait for a person."""

    prefer: bool = True
    remove: bool = True


class Notifications(PlanModel):
    """Who is told. Settings profiles under [notify.…]."""

    operations: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    carrier: Name | None = None

    @property
    def desks(self) -> tuple[str, ...]:
        """Every profile that takes alerts, each once."""
        return tuple(dict.fromkeys((self.operations,) if isinstance(self.operations, str) else self.operations))


class TlsWindow(PlanModel):
    """How the trunk's TLS is set while both certificates are bound (guide section 3 and edge case 2)."""

    retransmission_timeout: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(seconds=30)
    cipher_suites: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    )

    @model_validator(mode="after")
    def _no_weak_suites(self) -> Self:
        for suite in self.cipher_suites:
            if not re.fullmatch(r"TLS_[A-Z0-9_]+", suite):
                raise ValueError(f"{suite!r} is not an IANA cipher suite name (TLS_…)")
            weak = re.search(r"RC4|3DES|_DES_|DES40|EXPORT|NULL|MD5|anon", suite)
            if weak or suite.startswith("TLS_RSA_"):
                raise ValueError(f"{suite} is refused: guide section 3 asks for ECDHE with AES-GCM, and no RC4 or DES")
        return self


class Plan(PlanModel):
    """One rotation: one certificate A → B on one or more endpoints."""

    name: Name
    certificate: CertificateSpec
    endpoints: Annotated[tuple[Endpoint, ...], Field(min_length=1, max_length=64)]
    tls: TlsWindow = TlsWindow()
    thresholds: Thresholds = Thresholds()
    timings: Timings = Timings()
    approvals: Approvals = Approvals()
    notifications: Notifications

    @model_validator(mode="after")
    def _names_are_covered_once(self) -> Self:
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) != len(names):
            raise ValueError("endpoint names must differ")
        trunks = [(endpoint.platform, endpoint.trunk) for endpoint in self.endpoints]
        if len(set(trunks)) != len(trunks):
            raise ValueError("two endpoints name the same trunk of the same platform")
        return self

    @model_validator(mode="after")
    def _a_blind_switch_is_approved(self) -> Self:
        blind = [endpoint.name for endpoint in self.endpoints if endpoint.substitutes.canary is not None]
        if blind and not self.approvals.prefer:
            raise ValueError(
                f'endpoint {", ".join(blind)}: canary = "blind_switch" needs approvals.prefer = true, since nobody '
                "is served B before everybody is"
            )
        return self

    @model_validator(mode="after")
    def _soak_can_have_its_sample(self) -> Self:
        if self.probes_a_look > PROBES_A_LOOK:
            longest = self.timings.soak * PROBES_A_LOOK / self.thresholds.minimum_sample
            raise ValueError(
                f"timings.gate_interval = {duration_text(self.timings.gate_interval)} gives SOAK too few looks for "
                f"thresholds.minimum_sample = {self.thresholds.minimum_sample} canary probes in "
                f"{duration_text(self.timings.soak)}; at most {duration_text(longest / 1.25)}"
            )
        return self

    @property
    def probes_a_look(self) -> int:
        """Canary probes that every look of SOAK needs, so that the sample is there when its time is over; a quarter
        more than in theory, because looks take time too."""
        looks = max(1.0, self.timings.soak / self.timings.gate_interval)
        return math.ceil(self.thresholds.minimum_sample * 1.25 / looks)

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of that name; KeyError if there is none."""
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        raise KeyError(name)

    @property
    def sha256(self) -> str:
        """Fingerprint of the plan's content: hex SHA-256 over its canonical JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


PROBES_A_LOOK = 24
"""The most handshakes that our prober makes on the canary path of an endpoint in one look of SOAK."""

_AT_LEAST = ("overlap", "soak", "hold", "late_request", "drain_spacing", "expiry_margin")
_AT_MOST = ("guard_hot", "guard_overlap", "stale_after")


def _bound(timings: Timings, usual: Timings, name: str, *, least: bool) -> tuple[bool, str]:
    value, limit = getattr(timings, name), getattr(usual, name)
    text = f"timings.{name} = {duration_text(value)}, at {'least' if least else 'most'} {duration_text(limit)}"
    return (value < limit if least else value > limit), text


def limits_undercut(plan: Plan, default: Thresholds | None = None) -> list[str]:
    """What in the plan is allowed only in a lab; empty when it may run on live trunks (guide sections 1 and 4)."""
    reference, t, th = default or Thresholds(), plan.timings, plan.thresholds
    usual = Timings()
    checks: Sequence[tuple[bool, str]] = (
        *(_bound(t, usual, name, least=True) for name in _AT_LEAST),
        *(_bound(t, usual, name, least=False) for name in _AT_MOST),
        (
            th.minimum_sample < reference.minimum_sample,
            f"thresholds.minimum_sample = {th.minimum_sample}, at least {reference.minimum_sample}",
        ),
        (th.guard_sample < reference.guard_sample, f"thresholds.guard_sample = {th.guard_sample}, at least 100"),
        (th.success < reference.success, f"thresholds.success = {th.success}, at least {reference.success}"),
        (th.breach < reference.breach, f"thresholds.breach = {th.breach}, at least {reference.breach}"),
        (th.adopt_share < reference.adopt_share, f"thresholds.adopt_share = {th.adopt_share}, at least 0.85"),
        (
            th.setup_margin > reference.setup_margin,
            f"thresholds.setup_margin = {th.setup_margin}, at most {reference.setup_margin}",
        ),
        (
            th.consecutive_alerts > reference.consecutive_alerts,
            f"thresholds.consecutive_alerts = {th.consecutive_alerts}, at most {reference.consecutive_alerts}",
        ),
        (
            th.consecutive_failures > reference.consecutive_failures,
            f"thresholds.consecutive_failures = {th.consecutive_failures}, at most {reference.consecutive_failures}",
        ),
        (
            th.contradiction > reference.contradiction,
            f"thresholds.contradiction = {th.contradiction}, at most {reference.contradiction}",
        ),
        (
            th.contradiction_traffic > reference.contradiction_traffic,
            f"thresholds.contradiction_traffic = {th.contradiction_traffic}, at most {reference.contradiction_traffic}",
        ),
    )
    return [text for undercut, text in checks if undercut]


def parse_plan(text: str, source: str = "plan") -> Plan:
    """A plan from TOML text. Raises `PlanInvalid` that names every wrong field, its line and the nearest valid key."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanInvalid(f"not valid TOML: {error}", where=source, action="correct the syntax") from None
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        problems = describe_problems(error, Plan, text)
        raise PlanInvalid("the plan is not valid:\n  " + "\n  ".join(problems), where=source) from None


def load_plan(path: Path) -> Plan:
    """A plan from a TOML file. Raises `PlanInvalid` when it cannot be read or is wrong."""
    try:
        return parse_plan(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanInvalid(f"cannot be read: {error}", where=str(path)) from None
