"""Datadog's query API v2, `POST /api/v2/query/timeseries`: what is sent, what comes back, and what its refusals mean.

Source: https://docs.datadoghq.com/api/latest/metrics/ ("Query timeseries data across multiple products"), and the same
site's pages on rate limits and on the validation of keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import httpx
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from adapters.http import Http
from adapters.http_failures import place, retry_after_s, stated
from domain.errors import CredentialsRefused, PermissionMissing, RotatorError, Throttled
from settings import DatadogMetricsProfile

_REFUSALS: Final = frozenset(range(400, 600))
_REMOVED: Final = "[key removed]"
_NO_TAG: Final = "N/A"
"""The value of a tag by which a query groups and which a series does not have."""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Series(_Body):
    group_tags: tuple[str, ...] | None = None
    query_index: NonNegativeInt


class _Attributes(_Body):
    series: tuple[_Series, ...]
    times: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]


class _Data(_Body):
    type: Literal["timeseries_response"]
    attributes: _Attributes


class _Errors(_Body):
    errors: str | tuple[str, ...] | None = None


class _Answer(_Body):
    data: _Data


class Timeseries(NamedTuple):
    """One series of the answer: which query it belongs to, its tags, and its points (ms since 1970, value).

    A time for which it has no value is not among the points.
    """

    query: int
    tags: Mapping[str, str]
    points: tuple[tuple[int, float], ...]


class DatadogApi:
    """One organisation. `label` names it in errors, for example `[metrics.dog]`. No error shows a key."""

    def __init__(
        self, label: str, profile: DatadogMetricsProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._label = label
        self._profile = profile
        self._base = profile.base_url.rstrip("/")
        self._http = Http(label, profile, transport=transport)

    async def timeseries(self, queries: Sequence[str], since: int, until: int, interval: int) -> list[Timeseries]:
        """The series of each query in [since, until), in intervals; all in ms, the ends multiples of the interval.

        One request, and a second one after a 403, which alone does not tell wrong keys from a missing permission.

        Raises what `adapters.http.Http.send` raises, and `UnexpectedAnswer` for an answer of another shape, one that
        reports errors, or one whose lists do not fit together.
        """
        names = [f"query{number}" for number in range(1, len(queries) + 1)]
        body = {
            "data": {
                "type": "timeseries_request",
                "attributes": {
                    "from": since,
                    "to": until,
                    "interval": interval,
                    "queries": [
                        {"data_source": "metrics", "name": name, "query": query}
                        for name, query in zip(names, queries, strict=True)
                    ],
                    "formulas": [{"formula": name} for name in names],
                },
            }
        }
        keys = self._keys()
        response = await self._http.send(
            "POST", f"{self._base}/api/v2/query/timeseries", json=body, headers=keys, accept=_REFUSALS, only_asks=True
        )
        response = _without(response, keys)
        if not response.is_success:
            raise await self._refused(response, keys)
        reported = self._http.parse(response, _Errors).errors
        if reported:
            seen = reported if isinstance(reported, str) else "; ".join(reported)
            raise self._http.unexpected(response, "Datadog reports errors in its answer", seen)
        answer = self._http.parse(response, _Answer).data.attributes
        problem = _contradiction(answer, len(queries), since, until, interval)
        if problem is not None:
            raise self._http.unexpected(response, "the lists of the answer do not fit together", problem)
        return [
            Timeseries(
                series.query_index,
                _tags(series.group_tags or ()),
                tuple((at, value) for at, value in sorted(zip(answer.times, values, strict=True)) if value is not None),
            )
            for series, values in zip(answer.series, answer.values, strict=True)
        ]

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()

    def _keys(self) -> dict[str, str]:
        """The headers of every request."""
        api_key = self._profile.api_key.read(f"{self._label} api_key")
        application_key = self._profile.application_key.read(f"{self._label} application_key")
        return {
            "DD-API-KEY": api_key.get_secret_value(),
            "DD-APPLICATION-KEY": application_key.get_secret_value(),
            "Accept": "application/json",
        }

    async def _refused(self, response: httpx.Response, keys: Mapping[str, str]) -> RotatorError:
        """The failure behind a refusal, with Datadog's words."""
        if response.status_code == 403:
            return await self._forbidden(response, keys)
        if response.status_code == 429:
            return Throttled(
                "Datadog's rate limit is reached",
                where=place(self._label, response.request),
                seen=stated(response),
                retry_after_s=_seconds_until_reset(response.headers, datetime.now(UTC)),
                action="have fewer looks at once, or let Datadog raise the limit",
            )
        return self._http.refusal(response)

    async def _forbidden(self, response: httpx.Response, keys: Mapping[str, str]) -> RotatorError:
        """A 403 is also what wrong keys get: Datadog is asked whether they are right."""
        where, seen = place(self._label, response.request), stated(response)
        checked = await self._http.send(
            "GET", f"{self._base}/api/v2/validate_keys", headers=dict(keys), accept=_REFUSALS
        )
        if checked.status_code in (401, 403):
            return CredentialsRefused(
                "the keys are not accepted",
                where=where,
                seen=seen,
                action=f"check api_key, application_key and the site in base_url of {self._label}",
            )
        return PermissionMissing(
            "a permission is missing",
            where=where,
            seen=seen,
            action="give the application key, and whom it belongs to, the permission timeseries_query",
        )


def _without(response: httpx.Response, keys: Mapping[str, str]) -> httpx.Response:
    """The same answer, in which no key stands: it is told in errors. Datadog's keys are plain hex digits."""
    text = response.text
    for name in ("DD-API-KEY", "DD-APPLICATION-KEY"):
        text = text.replace(keys[name], _REMOVED)
    kept = {name: value for name, value in response.headers.items() if name.startswith(("x-ratelimit-", "retry-"))}
    return httpx.Response(response.status_code, headers=kept, text=text, request=response.request)


def _seconds_until_reset(headers: httpx.Headers, now: datetime) -> float:
    """`X-RateLimit-Reset`, which is in seconds, else `Retry-After`; 1 without a usable one."""
    waits = (retry_after_s(headers.get(name), now) for name in ("X-RateLimit-Reset", "Retry-After"))
    return next((wait for wait in waits if wait is not None), 1.0)


def _contradiction(answer: _Attributes, queries: int, since: int, until: int, interval: int) -> str | None:
    """What speaks against the answer: lists of other lengths, times or queries that nobody asked for."""
    if len(answer.series) != len(answer.values):
        return f"{len(answer.series)} series, {len(answer.values)} lists of values"
    if any(len(values) != len(answer.times) for values in answer.values):
        return f"{len(answer.times)} times, but {', '.join(str(len(values)) for values in answer.values)} values"
    if len(set(answer.times)) < len(answer.times):
        return "a time stands there twice"
    strange = [at for at in answer.times if not since <= at < until or at % interval]
    if strange:
        return f"time {strange[0]} in [{since}, {until}) with intervals of {interval} ms"
    unasked = [series.query_index for series in answer.series if series.query_index >= queries]
    return f"query_index {unasked[0]} of {queries} queries" if unasked else None


def _tags(group_tags: Sequence[str]) -> dict[str, str]:
    """Tags as name and value. A value may hold colons: an IPv6 address does."""
    pairs = (tag.partition(":") for tag in group_tags)
    return {name: value for name, _, value in pairs if value and value.upper() != _NO_TAG}
