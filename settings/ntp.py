"""The NTP servers against which clocks are held (guide edge case 1)."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import IPv6Address
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from domain.clocks import ClockLimits
from domain.plan import PositiveDuration
from settings.base import SettingsModel, Timeout

NTP_PORT = 123


def host_and_port(server: str) -> tuple[str, int]:
    """`host`, `host:port`, an IPv6 address, or one in brackets, with a port or without. Raises ValueError."""
    found = re.fullmatch(r"(?:\[(?P<v6>[^]]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::(?P<port>\d{1,5}))?", server)
    if found is None and _is_ipv6(server):
        return server, NTP_PORT
    if found is None or (found["v6"] is not None and not _is_ipv6(found["v6"])):
        raise ValueError("must be host, host:port, an IPv6 address or [IPv6 address]:port")
    port = NTP_PORT if found["port"] is None else int(found["port"])
    if not 1 <= port <= 65535:
        raise ValueError("the port must lie between 1 and 65535")
    return found["v6"] or found["name"], port


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _must_be_a_server(server: str) -> str:
    host_and_port(server)
    return server


NtpServer = Annotated[str, AfterValidator(_must_be_a_server)]


class NtpSettings(SettingsModel):
    """Which servers are asked, and how far a clock may be off."""

    servers: Annotated[tuple[NtpServer, ...], Field(min_length=1, max_length=16)] = Field(
        description="host or host:port; the default port is 123"
    )
    timeout: Annotated[Timeout, Field(le=timedelta(seconds=4))] = timedelta(seconds=2)
    warn_above: PositiveDuration = ClockLimits().warn_above
    refuse_above: PositiveDuration = ClockLimits().refuse_above

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if len(set(map(host_and_port, self.servers))) < len(self.servers):
            raise ValueError("servers names a server twice: it would outvote the others")
        if self.warn_above > self.refuse_above:
            raise ValueError("warn_above must not be longer than refuse_above: nobody would ever be warned")
        return self

    @property
    def limits(self) -> ClockLimits:
        """The limits of drift."""
        return ClockLimits(warn_above=self.warn_above, refuse_above=self.refuse_above)
