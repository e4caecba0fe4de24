"""What the control API shows of the world, as JSON-ready objects. Fingerprints are SHA-256 of leaves, in hex."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lab.api_guard import LoggedRequest
from lab.carrier import CallStatistics
from lab.inbox import Inbox
from lab.lab_names import GENESYS, SRV_NAMES
from lab.ledger import Ledger
from lab.nodes import Node
from lab.promise import Violation
from lab.trunk import Trunk
from lab.wire_time import now, time_text
from lab.world_parts import World

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def state(world: World) -> dict[str, object]:
    """`GET /lab/state`."""
    calls = world.carrier.stats()
    return {
        "time": time_text(now()),
        "certificate_a": world.certificate_a,
        "trunks": {name: _trunk(world, trunk, calls[name]) for name, trunk in world.trunks.items()},
        "external": {trunk.name: _external(world, trunk.name, calls[trunk.name]) for trunk in world.external.trunks},
        "dormant": _dormant(world),
        "violations": [_violation(one) for one in world.promise.violations],
        "promise_checks": world.promise.checks,
        "faults": world.faults.armed,
        "inbox": {
            "notices": len(world.carrier_api.notices.messages),
            "alerts": len(world.carrier_api.alerts.messages),
        },
        "api_requests": _request_counts(world),
        "dns_serial": world.zone.serial,
    }


def settled(world: World, *, quiet: bool) -> dict[str, object]:
    """`POST /lab/settle`: the state, which is final when `quiet`, and whether every call is accounted for."""
    calls = world.carrier.stats().values()
    adds_up = all(one.placed == one.completed + one.lost for one in calls)
    return {"settled": quiet, "adds_up": adds_up, **state(world)}


def inbox(world: World) -> dict[str, object]:
    """`GET /lab/inbox`."""
    api = world.carrier_api
    return {"notices": _messages(api.notices), "alerts": _messages(api.alerts)}


def requests(entries: list[LoggedRequest]) -> dict[str, object]:
    """`GET /lab/requests`."""
    return {
        "requests": [
            {
                "at": time_text(one.at),
                "service": one.service,
                "method": one.method,
                "path": one.path,
                "status": one.status,
            }
            for one in entries
        ]
    }


def node(one: Node) -> dict[str, object]:
    """A node of a trunk; `stale` while it has not taken the platform's current configuration."""
    return {
        "name": one.name,
        "port": one.edge.primary_port,
        "up": one.up,
        "stale": one.stale,
        "pool": [certificate.sha256 for certificate in one.binding.pool] if one.binding else [],
    }


def _trunk(world: World, trunk: Trunk, calls: CallStatistics) -> dict[str, object]:
    carrier_ledger = world.carrier.ledger(trunk.name)
    return {
        "pool": [certificate.sha256 for certificate in trunk.pool],
        "preferred": _preferred(world, trunk),
        "canary": trunk.binding.canary[0] if trunk.binding.canary else None,
        "listening": trunk.up(),
        "nodes": [node(one) for one in trunk.nodes],
        "settings": trunk.settings,
        "version": trunk.settings["version"],
        "active_calls": trunk.live_calls(),
        "waiting_calls": trunk.edge.waiting_calls,
        "calls": _calls(calls),
        "last_losses": _losses(calls),
        "handshakes": {"platform": _handshakes(trunk.ledger), "carrier": _handshakes(carrier_ledger)},
        "frozen": {"platform": trunk.ledger.frozen, "carrier": carrier_ledger.frozen},
        "srv": [
            {
                "priority": record.priority,
                "weight": record.weight,
                "port": record.port,
                "target": record.target.to_text(omit_final_dot=True),
            }
            for record in world.zone.srv(SRV_NAMES[trunk.name])
        ],
    }


def _external(world: World, name: str, calls: CallStatistics) -> dict[str, object]:
    """What the carrier knows of a trunk whose edge is not the lab's."""
    return {
        "calls": _calls(calls),
        "last_losses": _losses(calls),
        "handshakes": {"carrier": _handshakes(world.carrier.ledger(name))},
    }


def _losses(calls: CallStatistics) -> list[dict[str, str]]:
    return [{"at": time_text(loss.at), "direction": loss.direction, "cause": loss.cause} for loss in calls.losses]


def _dormant(world: World) -> dict[str, object] | None:
    """The second carrier on the Genesys trunk, if there is one."""
    if world.dormant is None:
        return None
    calls = world.dormant.stats()[GENESYS]
    return {
        "address": world.dormant.address,
        "calls": _calls(calls),
        "handshakes": _handshakes(world.dormant.ledger(GENESYS)),
    }


def _preferred(world: World, trunk: Trunk) -> str | None:
    """What a carrier gets that follows DNS: the certificate on the port of the most preferred SRV target."""
    records = world.zone.srv(SRV_NAMES[trunk.name])
    on_secondary = bool(records) and records[0].port == trunk.edge.secondary_port
    certificate = trunk.binding.served_on(now())["secondary" if on_secondary else "primary"]
    return certificate.sha256 if certificate else None


def _calls(calls: CallStatistics) -> dict[str, int]:
    return {
        "placed": calls.placed,
        "answered": calls.answered,
        "completed": calls.completed,
        "lost": calls.lost,
        "active": calls.active,
    }


def _handshakes(ledger: Ledger) -> dict[str, object]:
    """Attempts and failures by cause of each leaf in the last hour, all directions and peers together."""
    found: dict[str, tuple[int, dict[str, int]]] = {}
    for group, counts in ledger.counts(_EPOCH, now() + timedelta(seconds=1)).items():
        attempts, failures = found.get(group.sha256 or "none", (0, {}))
        for cause, count in counts.handshakes.failures.items():
            failures[cause] = failures.get(cause, 0) + count
        found[group.sha256 or "none"] = (attempts + counts.handshakes.attempts, failures)
    return {
        sha256: {"attempts": attempts, "failures": failures}
        for sha256, (attempts, failures) in found.items()
        if attempts
    }


def _messages(messages: Inbox) -> list[dict[str, object]]:
    """Each message as it was sent, and how it arrived."""
    return [
        {**one.body, "noticeId": one.id, "idempotencyKey": one.key, "receivedAt": time_text(one.at)}
        for one in messages.messages
    ]


def _violation(one: Violation) -> dict[str, str]:
    return {"at": time_text(one.at), "endpoint": one.endpoint, "reason": one.reason}


def _request_counts(world: World) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (service, status), count in sorted(world.log.counts.items()):
        found.setdefault(service, {})[str(status)] = count
    return found
