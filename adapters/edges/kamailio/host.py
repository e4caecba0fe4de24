"""One Kamailio node: its control listener (JSON-RPC and rotation.cfg), its files, and what its listener serves."""

from __future__ import annotations

import asyncio
import time
from typing import Final, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from adapters.edges.kamailio.look import Look
from adapters.edges.kamailio.sections import owned_by
from adapters.edges.kamailio.store import KamailioStore
from adapters.edges.kamailio.tls import CERTIFICATE, PRIVATE_KEY, TlsConfig, file_name
from adapters.edges.kamailio.wire import CONTRACT, Closing, RpcAnswer, State
from adapters.edges.served import served_leaf
from adapters.files.base import Files
from adapters.http import Http
from domain.errors import RequestRefused, Unreachable
from settings import HttpProfile, KamailioHost, KamailioProfile, PortCanary, SniCanary

README: Final = "deploy/kamailio/README.md"

RESTED_MS: Final = (500, 100, 20)
"""For how long a connection has to have rested before it is closed: asked for in turn, each for a second.

A request that crosses the close is lost unless the other side sends it again. The longer nothing came, the less is on
its way; a busy trunk has nothing but short moments.
"""

AGAIN_S: Final = 0.05
"""Between two looks for such a moment."""

T = TypeVar("T")


class RpcRefused(Exception):
    """Kamailio says no to a command; `message` is its own word for it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class KamailioNode:
    """One node. Methods raise `domain.errors.RotatorError`s; `where` names it in them."""

    def __init__(
        self,
        label: str,
        host: KamailioHost,
        profile: KamailioProfile,
        files: Files,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = host.name
        self.where = f"{label} node {host.name}"
        self.files = files
        self.store = KamailioStore(files)
        self._label = label
        self._profile = profile
        self._url = host.base_url.rstrip("/")
        address, _, port = host.listener.rpartition(":")
        self._address, self._port = address.strip("[]"), int(port)
        spoken_to = HttpProfile(
            base_url=host.base_url, ca_file=profile.ca_file, timeout=profile.timeout, lab=profile.lab
        )
        self._http = Http(self.where, spoken_to, transport=transport)

    async def state(self) -> State:
        """Connections and calls by certificate, and since when this process counts.

        Raises `RequestRefused` where rotation.cfg is not what answers, or is that of another trunk.
        """
        response = await self._http.send(
            "GET", f"{self._url}/rotation/state", headers=self._authorization(), accept={404}
        )
        if response.status_code == 404:
            raise RequestRefused(
                "Kamailio does not know /rotation/state",
                where=self.where,
                action=f"include rotation.cfg in its configuration ({README})",
            )
        state = self._http.parse(response, State)
        if state.contract != CONTRACT:
            raise RequestRefused(
                "Kamailio runs another version of rotation.cfg",
                where=self.where,
                seen=f"contract {state.contract}, known is {CONTRACT}",
                action="install the rotation.cfg of this release",
            )
        if state.trunk != self._profile.trunk:
            raise RequestRefused(
                "this Kamailio has another trunk",
                where=self.where,
                seen=f"TRUNK_NAME {state.trunk}, the settings say {self._profile.trunk}",
                action="correct base_url and trunk in the settings, or TRUNK_NAME in site.cfg",
            )
        return state

    async def look(self) -> Look:
        """Everything at once: what is written, what runs. Raises `RequestRefused` for a tls.cfg that cannot be used."""
        state, tls = await asyncio.gather(self.state(), self.tls())
        owned, problems = owned_by(tls, self._profile)
        if owned is None:
            raise RequestRefused(
                "tls.cfg cannot be rotated", where=self.where, seen="; ".join(problems), action=f"see {README}"
            )
        named = [name for section in tls.sections if (name := file_name(section.value(CERTIFICATE)))]
        kept, served, canary = await asyncio.gather(
            self.store.kept(named), self._served(owned.server.value("server_name")), self._canary_served()
        )
        return Look(self.where, state, tls, owned, kept, served, canary)

    async def tls(self) -> TlsConfig:
        """tls.cfg as it is written. Raises `RequestRefused` when it is not there."""
        content = await self.files.read(self._profile.tls_config)
        if content is None:
            raise RequestRefused(
                f"there is no {self._profile.tls_config}",
                where=self.files.where,
                action="correct files.directory or tls_config in the settings",
            )
        return TlsConfig(content)

    async def files_in_use(self) -> tuple[str, ...]:
        """Every file that tls.cfg names as a certificate or a key."""
        tls = await self.tls()
        paths = (section.value(setting) for section in tls.sections for setting in (CERTIFICATE, PRIVATE_KEY))
        return tuple(name for path in paths if (name := file_name(path)) is not None)

    async def ask(self, method: str, kind: type[T], *parameters: str) -> T:
        """A JSON-RPC command's result. Raises `RpcRefused` when Kamailio says no."""
        response = await self._http.send(
            "POST",
            f"{self._url}/RPC",
            json={"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)},
            headers=self._authorization(),
            accept={400, 404, 500},
        )
        answer = self._http.parse(response, RpcAnswer)
        if answer.error is not None:
            raise RpcRefused(f"{answer.error.code} {answer.error.message}")
        try:
            return TypeAdapter(kind).validate_python(answer.result)
        except ValidationError:
            wrong = self._http.unexpected(response, f"the answer to {method} is not of a known form", "its fields")
        raise wrong

    async def note_loaded(self, digest: str) -> None:
        """Keeps in Kamailio what it has loaded; a restart, which loads the files as they are, empties it."""
        try:
            await self.ask("htable.sets", object, "edge", "loaded", digest)
        except RpcRefused as refused:
            message = refused.message
        else:
            return
        raise RequestRefused(
            "Kamailio does not keep what it has loaded",
            where=self.where,
            seen=message,
            action=f"include rotation.cfg in its configuration ({README})",
        )

    async def close_connections(self, serial: str) -> int:
        """Closes every connection on which that certificate was presented, each when it rests; how many those are.

        Takes three seconds at most; what is busy for longer is closed by Kamailio itself, after 32 s at the latest.
        """
        begun, found = time.monotonic(), 0
        while (seconds := int(time.monotonic() - begun)) < len(RESTED_MS):
            url = f"{self._url}/rotation/close/{serial}/{RESTED_MS[seconds]}"
            response = await self._http.send("POST", url, json={}, headers=self._authorization())
            closing = self._http.parse(response, Closing)
            found = max(found, closing.open)
            if closing.left == 0:
                break
            await asyncio.sleep(AGAIN_S)
        return found

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()
        await self.files.close()

    async def _canary_served(self) -> str | None:
        match self._profile.canary:
            case SniCanary(server_name=name):
                return await self._served(name)
            case PortCanary(port=port):
                return await self._served(None, port)
            case _:
                return None

    async def _served(self, server_name: str | None, port: int | None = None) -> str | None:
        try:
            return await served_leaf(
                self._address,
                self._port if port is None else port,
                server_name,
                anchors=self._profile.trust_anchor_file,
                timeout_s=self._profile.timeout.total_seconds(),
                where=self.where,
            )
        except Unreachable:
            return None

    def _authorization(self) -> dict[str, str]:
        token = self._profile.token.read(f"{self._label} token")
        return {"Authorization": f"Bearer {token.get_secret_value()}"}
