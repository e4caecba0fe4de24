"""What the edges on our own hosts, HAProxy and Kamailio, say and read alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from domain.errors import RequestRefused, SettingsInvalid


def trust_anchors(path: Path, where: str) -> list[x509.Certificate]:
    """The roots that carriers trust, from the profile's PEM file. Raises `SettingsInvalid`."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        pass
    raise SettingsInvalid("the trust anchors cannot be read", where=f"{where} trust_anchor_file", seen=str(path))


def ensure_this_trunk(trunk: str, own: str, *, where: str, setting: str) -> None:
    """Raises `RequestRefused` for another trunk than the one of the profile's `setting`."""
    if trunk != own:
        raise RequestRefused(
            "this edge has no such trunk",
            where=where,
            seen=f"trunk = {trunk!r}, the settings say {own!r}",
            action=f"correct the plan, or {setting} in the settings",
        )


def ensure_unused(using: Sequence[str], where: str) -> None:
    """Raises `RequestRefused` while anything presents the certificate that is to be deleted."""
    if using:
        raise RequestRefused(
            "the certificate is in use and is not deleted",
            where=where,
            seen=", ".join(using),
            action="take it out of the pool, or of the section that names it, first",
        )
