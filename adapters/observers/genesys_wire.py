"""Genesys Cloud's published answers as typed models (platform API v2, SDK 269: docs/genesys-observer.md).

The SDK marks every field as optional. Required here is what an observer cannot do without; an answer that lacks it is
no answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.observed import Pinged

PINGS_OFF = frozenset({"DISABLED", "NOT_SUPPORTED"})
"""`optionsEnabledStatus` of a trunk that sends no OPTIONS: its availability interval is 0, or it has none."""

BYOC_CLOUD = "external_sip_pcv_byoc"
"""How the metabases of BYOC Cloud trunks begin (`…_carrier.json`, `…_pbx.json`); one of BYOC Premises is
`external_sip.json`."""

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


class Answer(BaseModel):
    """camelCase on the wire; fields that we do not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Reference(Answer):
    """`DomainEntityRef`: another object by its id."""

    id: str


class ErrorInfo(Answer):
    """`TrunkErrorInfo`: why a ping failed."""

    text: str | None = None
    code: str | None = None


class ConnectedStatus(Answer):
    """`TrunkConnectedStatus`; the time is that of the last change."""

    connected: bool
    connected_state_time: AwareDatetime | None = None


class OptionsStatus(Answer):
    """`TrunkMetricsOptions`: the pings to one proxy address; the time is that of the last change."""

    proxy_address: str
    option_state: bool
    option_state_time: AwareDatetime | None = None
    error_info: ErrorInfo | None = None

    def pinged(self) -> Pinged:
        """As the role's record."""
        info = self.error_info or ErrorInfo()
        error = ": ".join(part for part in (info.code, info.text) if part)
        return Pinged(
            address=self.proxy_address, answered=self.option_state, since=self.option_state_time, error=error[:200]
        )


class Trunk(Answer):
    """`Trunk`, what an observer needs of it."""

    id: str
    name: str
    state: str | None = None
    in_service: bool | None = None
    enabled: bool | None = None
    connected_status: ConnectedStatus
    options_enabled_status: str | None = None
    options_status: tuple[OptionsStatus, ...] = ()
    trunk_metabase: Reference | None = None

    def out_of_service(self) -> tuple[str, ...]:
        """What keeps the trunk from being used; what the answer leaves out keeps it from nothing."""
        return tuple(
            reason
            for reason, there in (
                (f"the trunk is {self.state}", self.state not in (None, "active")),
                ("the trunk is not in service (inService is false)", self.in_service is False),
                ("its edge is not in service (enabled is false)", self.enabled is False),
            )
            if there
        )

    def pings(self) -> tuple[Pinged, ...] | None:
        """The pings; None when the trunk sends none, or is silent about whether it does and names none."""
        status = self.options_enabled_status
        if status in PINGS_OFF or (status is None and not self.options_status):
            return None
        return tuple(one.pinged() for one in self.options_status)

    @property
    def byoc_cloud(self) -> bool:
        """A trunk of BYOC Cloud: the organisation's certificate authorities are not asked for its TLS."""
        return self.trunk_metabase is not None and self.trunk_metabase.id.startswith(BYOC_CLOUD)


class Calls(Answer):
    """`TrunkMetricsCalls`."""

    inbound_call_count: int | None = Field(default=None, ge=0)
    outbound_call_count: int | None = Field(default=None, ge=0)


class Metrics(Answer):
    """`TrunkMetrics`: the trunk's latest report, and when it was made."""

    event_time: AwareDatetime | None = None
    trunk: Reference | None = None
    calls: Calls = Calls()


class Authority(Answer):
    """`DomainCertificateAuthority`: an entry of the trust store, of which `certificate` is PEM, one or more."""

    id: str
    state: str | None = None
    certificate: str | None = None

    def sha256s(self) -> frozenset[str]:
        """SHA-256 of each certificate; none of an entry that is not active. PEM that cannot be read trusts nobody."""
        if self.state not in (None, "active"):
            return frozenset()
        found = set()
        for match in _CERTIFICATE.finditer(self.certificate or ""):
            try:
                der = base64.b64decode("".join(match[1].split()), validate=True)
            except binascii.Error:
                continue
            found.add(hashlib.sha256(der).hexdigest())
        return frozenset(found)


class AuthorityPage(Answer):
    """`CertificateAuthorityEntityListing`."""

    entities: tuple[Authority, ...]
    total: int | None = None
    next_uri: str | None = None
