"""Profiles of the cloud platforms: Genesys Cloud, as an edge and as an observer, and NICE CXone."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from settings.base import HttpProfile, SecretSource, SettingsModel, must_be_https


class GenesysPaths(SettingsModel):
    """Paths of the guide's Genesys requests and of those defined beside them (docs/platform-contract.md)."""

    token: str = "/oauth/token"
    certificates: str = "/api/v2/platform/certificates"
    certificate: str = "/api/v2/platform/certificates/{certificate_id}"
    trunks: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks"
    trunk: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks/{trunk_id}"
    ticket_flush: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks/{trunk_id}/tlsticketcache/flush"
    close_connections: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks/{trunk_id}/tlsconnections/close"
    metrics: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/siptrunks/{trunk_id}/tlsmetrics"
    health: str = "/api/v2/telephony/providers/edge/edge/{edge_id}/health"


class GenesysLogin(HttpProfile):
    """A Genesys Cloud organisation and an OAuth client of it (grant type: client credentials)."""

    kind: Literal["genesys"]
    login_url: str
    client_id: str
    client_secret: SecretSource

    @model_validator(mode="after")
    def _https_login_outside_a_lab(self) -> Self:
        must_be_https(self.login_url, "login_url", lab=self.lab)
        return self


class GenesysProfile(GenesysLogin):
    """A Genesys Cloud organisation as an edge."""

    paths: GenesysPaths = GenesysPaths()


class GenesysObserverProfile(GenesysLogin):
    """A Genesys Cloud organisation as an observer, by its published API (docs/genesys-observer.md)."""


class CxonePaths(SettingsModel):
    """Paths of the guide's CXone request and of those defined beside it (docs/platform-contract.md)."""

    token: str = "/authentication/v1/token/access-key"
    certificates: str = "/restapi/v1.0/security/certificates"
    certificate: str = "/restapi/v1.0/security/certificates/{certificate_id}"
    trunks: str = "/restapi/v1.0/sip/trunks"
    profile: str = "/restapi/v1.0/sip/trunks/{trunk_id}/profile"
    ticket_flush: str = "/restapi/v1.0/sip/trunks/{trunk_id}/tls-session-cache/flush"
    close_connections: str = "/restapi/v1.0/sip/trunks/{trunk_id}/tls-connections/close"
    metrics: str = "/restapi/v1.0/system/metrics/sip-trunks/{trunk_id}/tls"
    health: str = "/restapi/v1.0/system/health/sip-trunks/{trunk_id}"


class CxoneProfile(HttpProfile):
    """A NICE CXone tenant."""

    kind: Literal["cxone"]
    auth_url: str
    access_key_id: str
    access_key_secret: SecretSource
    paths: CxonePaths = CxonePaths()

    @model_validator(mode="after")
    def _https_login_outside_a_lab(self) -> Self:
        must_be_https(self.auth_url, "auth_url", lab=self.lab)
        return self
