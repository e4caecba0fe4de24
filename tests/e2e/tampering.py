"""A worker's adapters with a hand on them: a test can hold a call, replace it, or look at what it gave.

For what no network and no lab can do: a bug inside a watcher, and a moment that has to be met exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from temporalio import activity

from adapters.carriers.base import Carrier
from adapters.edges.base import Edge
from adapters.keys.base import KeyCustodian
from adapters.metrics.base import MetricSource
from adapters.pki.base import CertificateAuthority
from adapters.registry import Adapters
from settings import Settings

Call = Callable[[], Awaitable[Any]]
"""The call as the product made it; a rule makes it, or does not."""

Rule = Callable[[Call], Awaitable[Any]]


@dataclass
class Held:
    """A call that waits: `reached` once the product has made it, going on after `release`."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)


class TamperedAdapters(Adapters):
    """Rules by `role.method`, for example `edge.update_trunk` or `metrics.samples`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.rules: dict[str, Rule] = {}
        self.answers: defaultdict[str, list[Any]] = defaultdict(list)
        """What every call gave that came back."""

    def edge(self, profile: str) -> Edge:
        """As the registry's."""
        return cast(Edge, _Tampered(self, "edge", super().edge(profile)))

    def metrics(self, profile: str) -> MetricSource:
        """As the registry's."""
        return cast(MetricSource, _Tampered(self, "metrics", super().metrics(profile)))

    def metric_source(self, profile: str) -> MetricSource:
        """As the registry's."""
        return cast(MetricSource, _Tampered(self, "metric_source", super().metric_source(profile)))

    def carrier(self, profile: str) -> Carrier:
        """As the registry's."""
        return cast(Carrier, _Tampered(self, "carrier", super().carrier(profile)))

    def authority(self, profile: str) -> CertificateAuthority:
        """As the registry's."""
        return cast(CertificateAuthority, _Tampered(self, "authority", super().authority(profile)))

    def custodian(self, profile: str) -> KeyCustodian:
        """As the registry's."""
        return cast(KeyCustodian, _Tampered(self, "custodian", super().custodian(profile)))

    @contextlib.contextmanager
    def instead(self, name: str, rule: Rule) -> Iterator[None]:
        """While the block runs, `rule` stands between the product and `name`."""
        self.rules[name] = rule
        try:
            yield
        finally:
            del self.rules[name]

    @contextlib.contextmanager
    def held(self, name: str, *, within: str | None = None) -> Iterator[Held]:
        """Every call of `name`, or those within one activity, wait for `release`: the block's end at the latest."""
        held = Held()

        async def wait(call: Call) -> Any:
            if within in (None, activity.info().activity_type):
                held.reached.set()
                await held.release.wait()
            return await call()

        with self.instead(name, wait):
            try:
                yield held
            finally:
                held.release.set()


class _Tampered:
    """One adapter as the product sees it."""

    def __init__(self, owner: TamperedAdapters, role: str, adapter: object) -> None:
        self._owner, self._role, self._adapter = owner, role, adapter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        if not inspect.iscoroutinefunction(found):
            return found
        full = f"{self._role}.{name}"

        async def called(*arguments: Any, **named: Any) -> Any:
            async def call() -> Any:
                return await found(*arguments, **named)

            rule = self._owner.rules.get(full)
            answer = await (call() if rule is None else rule(call))
            self._owner.answers[full].append(answer)
            return answer

        return called
