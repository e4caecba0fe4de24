"""One login at a Vault-API server (HashiCorp Vault or OpenBao), shared by the adapters that talk to it.

hvac blocks, and one of its clients must not serve two threads at a time: calls run in `asyncio.to_thread`, each with a
client of its own taken from a small stock. Nothing is repeated on the HTTP level, since a repeated POST would sign
twice; only a 403 is answered by one new login and one repetition, because the first was then refused as a whole.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import hvac
import requests
from pydantic import BaseModel, SecretStr, ValidationError

from adapters import vault_failures
from adapters.fence import ensure_in_time
from adapters.vault_login import AuthAnswer, Login, TokenAnswer
from domain.errors import CredentialsRefused, RotatorError, SettingsInvalid, UnexpectedAnswer
from settings import VaultAddress

M = TypeVar("M", bound=BaseModel)

CONNECT_TIMEOUT_S: Final = 3.0
_READS: Final = frozenset({"get", "list"})


@dataclass(frozen=True, repr=False)
class _Call:
    """One request. Its body may hold a key, so it has no repr."""

    method: str
    path: str
    body: Mapping[str, object] | None = None
    content: bytes | None = None
    content_type: str | None = None
    params: Mapping[str, str | int] = field(default_factory=dict)
    capability: str | None = None

    @property
    def needs(self) -> str:
        """The policy capability that the call needs."""
        return self.capability or vault_failures.CAPABILITY[self.method]


class VaultSession:
    """Reads, writes and logs in; every method raises `domain.errors.RotatorError`s only.

    `profile` names the settings profile in errors, for example `[pki.enterprise]`; `clock` gives monotonic seconds.
    """

    def __init__(self, profile: str, settings: VaultAddress, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.profile = profile
        self._settings = settings
        self._clock = clock
        self._address = _without_credentials(settings.address)
        self._idle: queue.LifoQueue[hvac.Client] = queue.LifoQueue()
        self._login: Login | None = None
        self._lock = threading.Lock()

    async def log_in(self) -> None:
        """Logs in anew. Raises `CredentialsRefused` when the server does not know us."""
        await asyncio.to_thread(self._log_in_anew, None)

    async def read(self, path: str, model: type[M]) -> M | None:
        """`data` of what lies under `path`; None when nothing is there. Raises `RequestRefused` for a wrong mount."""
        return await self._find(_Call("get", path), model)

    async def list(self, path: str, model: type[M], *, after: str = "", limit: int = 0) -> M | None:
        """`data` of a listing; None when it is empty. `after` and `limit` page it where the server knows them."""
        return await self._find(_Call("list", path, params={"after": after, "limit": limit} if limit else {}), model)

    async def write(self, path: str, body: Mapping[str, object], model: type[M], *, capability: str = "update") -> M:
        """Writes and returns `data` of the answer. Raises `UnexpectedAnswer` when it has none of that shape."""
        call = _Call("post", path, body=body, capability=capability)
        return self._parse(await asyncio.to_thread(self._answer, call), call, model)

    async def send(self, path: str, body: Mapping[str, object]) -> None:
        """Writes where the answer does not matter beyond its success."""
        call = _Call("post", path, body=body)
        self._checked(await asyncio.to_thread(self._answer, call), call)

    async def delete(self, path: str) -> None:
        """Deletes; deleting what is not there is no error."""
        call = _Call("delete", path)
        response = await asyncio.to_thread(self._answer, call)
        if not _nothing_there(response):
            self._checked(response, call)

    async def fetch(self, path: str, *, content: bytes | None = None, content_type: str | None = None) -> bytes:
        """The raw body of a GET, or of a POST of `content`: for OCSP and CRLs, which are not JSON."""
        call = _Call("get" if content is None else "post", path, content=content, content_type=content_type)
        return self._checked(await asyncio.to_thread(self._answer, call), call).content

    def close(self) -> None:
        """Closes the idle connections; the session opens new ones when it is used again."""
        while True:
            try:
                self._idle.get_nowait().adapter.close()
            except queue.Empty:
                return

    def where(self, path: str, method: str = "") -> str:
        """Profile, address, method and path, for errors."""
        return f"{self.profile} at {self._address}, {f'{method.upper()} {path}'.strip()}"

    async def _find(self, call: _Call, model: type[M]) -> M | None:
        response = await asyncio.to_thread(self._answer, call)
        return None if _nothing_there(response) else self._parse(response, call, model)

    def _answer(self, call: _Call) -> requests.Response:
        login = self._current_login()
        response = self._request(call, login.token)
        if response.status_code == HTTPStatus.FORBIDDEN:
            response = self._request(call, self._log_in_anew(login).token)
        return response

    def _request(self, call: _Call, token: SecretStr | None) -> requests.Response:
        """One HTTP request. An exception of `requests` carries the request: none leaves here, not as context either."""
        failure: RotatorError
        if call.method not in _READS:
            ensure_in_time(self.where(call.path, call.method))
        client = self._take_client()
        client.token = token.get_secret_value() if token else ""
        try:
            response: requests.Response = client.adapter.request(
                call.method,
                f"/v1/{call.path}",
                raise_exception=False,
                headers={"Content-Type": call.content_type} if call.content_type else {},
                params=call.params,
                json=call.body,
                data=call.content,
            )
        except OSError as error:
            ca_file = str(self._settings.ca_file) if self._settings.ca_file else None
            failure = vault_failures.of_transport(error, where=self.where(call.path, call.method), ca_file=ca_file)
        else:
            return response
        finally:
            client.token = ""
            self._idle.put(client)
        raise failure

    def _take_client(self) -> hvac.Client:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            pass
        total = self._settings.timeout.total_seconds()
        client = hvac.Client(
            url=self._settings.address,
            token="",
            verify=str(self._settings.ca_file) if self._settings.ca_file else True,
            namespace=self._settings.namespace,
            adapter=hvac.adapters.RawAdapter,
            timeout=(min(CONNECT_TIMEOUT_S, total), total),  # type: ignore[arg-type]
        )
        client.session.trust_env = False  # no proxy, CA bundle or .netrc but what the settings name
        return client

    def _current_login(self) -> Login:
        with self._lock:
            if self._login is None or self._login.due(self._clock()):
                self._login = (self._renewed(self._login) if self._login else None) or self._new_login()
            return self._login

    def _log_in_anew(self, refused: Login | None) -> Login:
        """A new login, unless another thread made one since `refused` was used."""
        with self._lock:
            if refused is None or self._login is None or self._login.token == refused.token:
                self._login = self._new_login()
            return self._login

    def _renewed(self, login: Login) -> Login | None:
        call = _Call("post", "auth/token/renew-self", body={})
        response = self._request(call, login.token) if login.renewable else None
        if response is None or not response.ok:
            return None
        answer = self._parse(response, call, AuthAnswer, part="auth")
        return login.renewed(self._clock(), answer.lease_duration)

    def _new_login(self) -> Login:
        return self._token_login(self._settings.token.read) if self._settings.token else self._approle_login()

    def _token_login(self, read: Callable[[str], SecretStr]) -> Login:
        field = f"{self.profile} token"
        token, call = _printable(read(field), field), _Call("get", "auth/token/lookup-self")
        response = self._request(call, token)
        if response.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN):
            raise CredentialsRefused(
                "the token is refused",
                where=self.where(call.path, call.method),
                seen=_seen(response),
                action="give a valid token that may look itself up (policy default allows it)",
            )
        found = self._parse(response, call, TokenAnswer)
        return Login.at(self._clock(), token=token, lease_s=found.ttl, renewable=found.renewable)

    def _approle_login(self) -> Login:
        s = self._settings
        assert s.role_id is not None
        assert s.secret_id is not None
        secret_id = s.secret_id.read(f"{self.profile} secret_id").get_secret_value()
        call = _Call("post", "auth/approle/login", body={"role_id": s.role_id, "secret_id": secret_id})
        response = self._request(call, None)
        if response.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN):
            raise CredentialsRefused(
                "the AppRole login is refused",
                where=self.where(call.path, call.method),
                seen=_seen(response),
                action="check role_id and secret_id, and that AppRole is enabled at auth/approle",
            )
        answer = self._parse(response, call, AuthAnswer, part="auth")
        return Login.at(
            self._clock(), token=answer.client_token, lease_s=answer.lease_duration, renewable=answer.renewable
        )

    def _parse(self, response: requests.Response, call: _Call, model: type[M], *, part: str = "data") -> M:
        self._checked(response, call)
        seen = f"{response.status_code} without {part}"
        try:
            body = _json(response).get(part)
            if body is not None:
                return model.model_validate(body)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            seen = "; ".join(f"{'.'.join(map(str, p['loc'])) or part}: {p['msg']}" for p in problems)
        raise UnexpectedAnswer(
            "the answer does not have the shape of this path",
            where=self.where(call.path, call.method),
            seen=seen,
            action="check that the mount in the settings is of the right kind and version",
        )

    def _checked(self, response: requests.Response, call: _Call) -> requests.Response:
        if response.ok:
            return response
        raise vault_failures.of_status(
            response.status_code,
            _errors(response),
            where=self.where(call.path, call.method),
            path=call.path,
            capability=call.needs,
            retry_after=response.headers.get("Retry-After"),
        )


def _without_credentials(address: str) -> str:
    """The address as errors may show it: without user and password."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _printable(token: SecretStr, field: str) -> SecretStr:
    """The token, if it can stand in a header; otherwise `requests` would quote it in its exception."""
    value = token.get_secret_value()
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise SettingsInvalid("the token holds characters that no token has", where=field, action="correct its source")
    return token


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _errors(response: requests.Response) -> list[str]:
    return [str(text) for text in _json(response).get("errors") or ()]


def _seen(response: requests.Response) -> str:
    return f"{response.status_code} {'; '.join(_errors(response))}".strip()


def _nothing_there(response: requests.Response) -> bool:
    """404 without an error: the path exists, and nothing lies there. A wrong mount comes with one."""
    return response.status_code == HTTPStatus.NOT_FOUND and not _errors(response)
