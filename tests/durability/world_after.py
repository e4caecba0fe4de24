"""What must be true of the world after a rotation, whatever died on its way: read at the source, by clients of our own.

OpenBao is read with its root token, the platforms through their APIs past the taps, trunks, DNS, calls and promise 1 by
the lab's control API. Take `World.before`, run a rotation, then ask `completed` or `rolled_back` what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import hvac
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hvac.exceptions import InvalidPath

from lab.lab_names import CXONE, CXONE_TRUNK, EDGE_ID, GENESYS, GENESYS_TRUNK
from lab.vault_setup import KV_MOUNT, RETIRING_MOUNT, SIGNING_MOUNT
from tests.durability.house import House
from tests.lab.lab_client import LabClient
from workflows.messages import RotationStatus

_GENESYS_TRUNK = f"/api/v2/telephony/providers/edge/edge/{EDGE_ID}/siptrunks/{GENESYS_TRUNK}"
_CXONE_TRUNK = f"/restapi/v1.0/sip/trunks/{CXONE_TRUNK}/profile"

EXPLAINED = re.compile(r"'cause': 'dns Timeout'")
"""Losses that are the machine's: carrier and DNS server are one process, and it got no processor for seconds."""

CUSTODY_PREFIX = "rot"
CUSTODY_CHECKS = "access-check/"
"""Where custody tries whether it may write; what lies there is a random text and no key."""


@dataclass(frozen=True)
class Signed:
    """A certificate that the PKI has in its books."""

    sha256: str
    spki: str
    revoked_at: datetime | None


@dataclass(frozen=True)
class World:
    """Everything that a rotation could have left behind, at one moment."""

    signed: dict[str, Signed]
    """Every leaf of both issuing mounts, by SHA-256."""
    keys: dict[str, str]
    """SPKI SHA-256 of every key in custody, by the run that it was kept for."""
    chains: list[str]
    """The runs for which custody keeps a chain."""
    uploads: dict[str, list[str]]
    """SHA-256 of every certificate on each platform, one for each upload."""
    pools: dict[str, list[str]]
    canaries: dict[str, str | None]
    settings: dict[str, dict[str, Any]]
    """The trunk as its platform shows it, without what every write changes."""
    srv: dict[str, list[tuple[int, str]]]
    """Priority and target of the SRV records of each trunk."""
    violations: int
    lost_calls: dict[str, list[str]]

    @classmethod
    async def read(cls, house: House) -> World:
        """Looks at everything once."""
        state = house.lab.get("/lab/state")
        trunks = state["trunks"]
        uploads, settings = await _platforms(house)
        keys, chains = _custody(house)
        return cls(
            signed=_signed(house),
            keys=keys,
            chains=chains,
            uploads=uploads,
            pools={name: trunk["pool"] for name, trunk in trunks.items()},
            canaries={name: trunk["canary"] for name, trunk in trunks.items()},
            settings=settings,
            srv={name: [(one["priority"], one["target"]) for one in trunk["srv"]] for name, trunk in trunks.items()},
            violations=len(state["violations"]),
            lost_calls={name: [str(loss) for loss in trunk["last_losses"]] for name, trunk in trunks.items()},
        )

    def a(self) -> str:
        """The certificate that every trunk serves alone. Raises AssertionError when it is not so."""
        leaves = {tuple(pool) for pool in self.pools.values()}
        assert len(leaves) == 1, f"the trunks serve different pools: {self.pools}"
        (pool,) = leaves
        assert len(pool) == 1, f"more than one certificate is bound: {self.pools}"
        return pool[0]


async def completed(house: House, before: World, status: RotationStatus) -> World:
    """Asserts that B took A's place, once and cleanly; returns the world as it is now."""
    after, a = await World.read(house), before.a()
    assert status.b is not None
    b = status.b.sha256
    wrong = _always(before, after)
    wrong += _unless(after.pools == {name: [b] for name in before.pools}, f"pools are {after.pools}, not B alone")
    wrong += _unless(not any(after.canaries.values()), f"a canary is left: {after.canaries}")
    issued = _unrevoked(after, before)
    wrong += _unless(issued == [b], f"unrevoked certificates of this run: {issued}, in use is {b}")
    for platform, uploads in after.uploads.items():
        wanted = [one for one in before.uploads[platform] if one != a] + [b]
        wrong += _unless(sorted(uploads) == sorted(wanted), f"{platform} holds {uploads}, expected {wanted}")
    spki_a = after.signed[a].spki
    keys = {run: spki for run, spki in before.keys.items() if spki != spki_a}
    keys[status.run] = after.signed[b].spki
    wrong += _unless(after.keys == keys, f"custody keeps {after.keys}, expected B's key and not A's: {keys}")
    wrong += _unless(after.chains == sorted(keys), f"custody keeps chains of {after.chains}, keys of {sorted(keys)}")
    wrong += _revoked_at_the_end(after.signed[a], status)
    wrong += _unless(after.srv == before.srv, f"SRV is {after.srv}, was {before.srv}")
    _demand(wrong)
    return after


async def rolled_back(house: House, before: World, status: RotationStatus, *, b_did_harm: bool = False) -> World:
    """Asserts that A is alone as it was found and B is gone everywhere; returns the world as it is now.

    `b_did_harm`: a fault of the lab lost calls on B, which explains them.
    """
    after, a = await World.read(house), before.a()
    wrong = _always(before, after, calls_explained=b_did_harm)
    wrong += _unless(after.pools == before.pools, f"pools are {after.pools}, were {before.pools}")
    wrong += _unless(after.canaries == before.canaries, f"canaries are {after.canaries}, were {before.canaries}")
    wrong += _unless(_unrevoked(after, before) == [], f"B is not revoked: {_unrevoked(after, before)}")
    wrong += _unless(after.signed[a].revoked_at is None, "A is revoked")
    wrong += _unless(after.uploads == before.uploads, f"uploads are {after.uploads}, were {before.uploads}")
    wrong += _unless(
        after.keys == before.keys, f"custody holds keys of {sorted(after.keys)}, not {sorted(before.keys)}"
    )
    wrong += _unless(after.chains == before.chains, f"custody has chains of {after.chains}, had {before.chains}")
    wrong += _unless(after.srv == before.srv, f"SRV is {after.srv}, was {before.srv}")
    wrong += _unless(not status.a_revoked, "the status says that A is revoked")
    _demand(wrong)
    return after


def _always(before: World, after: World, *, calls_explained: bool = False) -> list[str]:
    """However a rotation ends: promise 1 was never broken, no call was lost, trunk settings are as they were."""
    wrong = _unless(after.violations == before.violations, "an endpoint was without a working certificate")
    for name, losses in after.lost_calls.items():
        new = [loss for loss in losses if loss not in before.lost_calls[name] and not EXPLAINED.search(loss)]
        wrong += _unless(calls_explained or not new, f"{name} lost calls: {new}")
    for name, settings in after.settings.items():
        was = before.settings[name]
        changed = {key: (was.get(key), value) for key, value in settings.items() if was.get(key) != value}
        wrong += _unless(not changed, f"settings of {name} have changed (was, is): {changed}")
    return wrong


def _revoked_at_the_end(a: Signed, status: RotationStatus) -> list[str]:
    """A's revocation is not older than the phase REVOKE; the PKI counts whole seconds."""
    began = next((time.entered_at for time in status.phases if time.phase == "REVOKE"), None)
    if a.revoked_at is None or began is None:
        return ["A is not revoked"]
    return _unless(
        a.revoked_at >= began - timedelta(seconds=1), f"A was revoked at {a.revoked_at}, REVOKE began at {began}"
    )


def _unrevoked(after: World, before: World) -> list[str]:
    """What was signed meanwhile and is not revoked."""
    return [one.sha256 for one in after.signed.values() if one.sha256 not in before.signed and one.revoked_at is None]


def _unless(right: bool, problem: str) -> list[str]:
    return [] if right else [problem]


def _demand(wrong: list[str]) -> None:
    assert not wrong, "\n".join(wrong)


def _client(house: House) -> hvac.Client:
    client = hvac.Client(url=house.bao.address, token=house.bao.root_token)
    client.session.trust_env = False
    return client


def _signed(house: House) -> dict[str, Signed]:
    client = _client(house)
    pki: Any = client.secrets.pki
    found = {}
    for mount in (RETIRING_MOUNT, SIGNING_MOUNT):
        for serial in _serials(pki, mount):
            data = pki.read_certificate(serial, mount_point=mount)["data"]
            certificate = x509.load_pem_x509_certificate(data["certificate"].encode())
            revoked = data.get("revocation_time") or 0
            one = Signed(
                sha256=certificate.fingerprint(hashes.SHA256()).hex(),
                spki=_spki(certificate),
                revoked_at=datetime.fromtimestamp(revoked, UTC) if revoked else None,
            )
            found[one.sha256] = one
    client.adapter.close()
    return found


def _serials(pki: Any, mount: str) -> list[str]:
    try:
        return list(pki.list_certificates(mount_point=mount)["data"]["keys"])
    except InvalidPath:  # how the API says that there are none
        return []


def _spki(certificate: x509.Certificate) -> str:
    encoded = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(encoded)
    return digest.finalize().hex()


def _custody(house: House) -> tuple[dict[str, str], list[str]]:
    """The SPKI of every key by its run, and the runs that have a chain."""
    client = _client(house)
    kv: Any = client.secrets.kv.v2
    keys, chains = {}, []
    for path in _listed(kv, f"{CUSTODY_PREFIX}/"):
        run, _, entry = path.removeprefix(f"{CUSTODY_PREFIX}/").rpartition("/")
        if run.startswith(CUSTODY_CHECKS):
            continue
        if entry == "key":
            data = kv.read_secret_version(path, mount_point=KV_MOUNT, raise_on_deleted_version=True)["data"]["data"]
            keys[run] = data["spki_sha256"]
        else:
            chains.append(run)
    client.adapter.close()
    return keys, sorted(chains)


def _listed(kv: Any, folder: str) -> list[str]:
    try:
        keys = kv.list_secrets(folder, mount_point=KV_MOUNT)["data"]["keys"]
    except InvalidPath:
        return []
    found: list[str] = []
    for key in keys:
        found += _listed(kv, folder + key) if key.endswith("/") else [folder + key]
    return found


async def _platforms(house: House) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """Uploads by SHA-256 and trunk settings, of both platforms, asked past the taps."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        client = LabClient(house.lab.directory, house.lab.facts, cast(Any, None), http)
        genesys = await client.send("genesys", "GET", "/api/v2/platform/certificates?pageSize=100")
        cxone = await client.send("cxone", "GET", "/restapi/v1.0/security/certificates")
        trunk = await client.send("genesys", "GET", _GENESYS_TRUNK)
        profile = await client.send("cxone", "GET", _CXONE_TRUNK)
    page = genesys.json()
    assert page["pageCount"] == 1, "the store has more pages than one"
    uploads = {
        GENESYS: [one["sha256Fingerprint"] for one in page["entities"]],
        CXONE: [one["sha256"] for one in cxone.json()["certificates"]],
    }
    return uploads, {GENESYS: _lasting(trunk.json()), CXONE: _lasting(profile.json())}


_MOVING = frozenset({"version", "certificateIds", "tlsCanary", "primaryCertificateId", "secondaryCertificateId"})


def _lasting(trunk: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in trunk.items() if key not in _MOVING}
