"""A real SFTP server with a real host key in the test's own process, and an SSH agent."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.packet import Byte, SSHPacket, String, UInt32

from lab.ports import LOOPBACK
from settings import SftpDirectory

USER = "rotator"


def new_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@dataclass
class Hold:
    """Makes the server wait in one operation until `go` is set; `reached` says that it waits."""

    operation: str
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class SftpHost:
    """One host: keys, files of the worker, and the running server."""

    directory: Path
    settings_folder: Path
    user_key: asyncssh.SSHKey = field(default_factory=new_key)
    host_key: asyncssh.SSHKey = field(default_factory=new_key)
    hold: Hold | None = None
    sftp: bool = True
    sockets: bool = True
    """Whether clients may be connected to sockets on the host, as OpenSSH does (AllowStreamLocalForwarding)."""
    keep: int | None = None
    """Bytes of each write that the server keeps although it confirms all."""
    rename: asyncio.Task[None] | None = None
    """The last one. The server goes through with it even when the client is gone."""
    port: int = 0
    logins: int = 0
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    _server: asyncssh.SSHAcceptor | None = None

    async def start(self) -> None:
        host = self

        class Login(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                host.connections.append(conn)

            def auth_completed(self) -> None:
                host.logins += 1

            def unix_connection_requested(self, dest_path: str) -> bool:
                return host.sockets

        class Disk(asyncssh.SFTPServer):
            async def lstat(self, path: bytes) -> Any:
                await host.wait("lstat")
                return super().lstat(path)

            def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
                super().write(file_obj, offset, data if host.keep is None else data[: host.keep])
                return len(data)

            async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
                rename = super().posix_rename

                async def in_its_own_time() -> None:
                    await host.wait("rename")
                    rename(oldpath, newpath)

                host.rename = asyncio.create_task(in_its_own_time())
                await asyncio.shield(host.rename)

        self._server = await asyncssh.listen(
            LOOPBACK,
            self.port,
            server_factory=Login,
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(self.user_key.export_public_key().decode()),
            sftp_factory=Disk if self.sftp else None,
            reuse_address=True,
        )
        self.port = self._server.get_port()

    async def stop(self) -> None:
        assert self._server is not None
        self.drop_connections()
        self._server.close()
        await self._server.wait_closed()

    def drop_connections(self) -> None:
        """As a reboot does."""
        for connection in self.connections:
            connection.abort()
        self.connections.clear()

    async def wait(self, operation: str) -> None:
        if self.hold is not None and self.hold.operation == operation:
            self.hold.reached.set()
            await self.hold.go.wait()

    def source(self, **changes: Any) -> SftpDirectory:
        """The settings of a worker that is known here, changed."""
        usual = {
            "kind": "sftp",
            "host": LOOPBACK,
            "port": self.port,
            "user": USER,
            "key_file": self.key_file("user", self.user_key),
            "known_hosts_file": self.known_hosts(self.host_key),
            "directory": str(self.directory),
            "timeout": "20s",
        }
        return SftpDirectory.model_validate({**usual, **changes})

    def key_file(self, name: str, key: asyncssh.SSHKey, mode: int = 0o600, passphrase: str | None = None) -> Path:
        path = self.settings_folder / name
        path.write_bytes(key.export_private_key("pkcs8-pem" if passphrase else "openssh", passphrase))
        path.chmod(mode)
        return path

    def known_hosts(self, *keys: asyncssh.SSHKey) -> Path:
        path = self.settings_folder / f"known_hosts-{len(keys)}-{abs(hash(keys))}"
        lines = [f"[{LOOPBACK}]:{self.port} {key.export_public_key().decode()}" for key in keys]
        path.write_text("".join(lines))
        return path


@contextlib.asynccontextmanager
async def agent_with(path: Path, *keys: asyncssh.SSHKey) -> AsyncIterator[None]:
    """An SSH agent on a socket (draft-ietf-sshm-ssh-agent, sections 3.5 and 3.6) that lists these keys and signs."""
    blobs = {key.public_data: key for key in keys}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                answer = reply(SSHPacket(await reader.readexactly(size)))
                writer.write(UInt32(len(answer)) + answer)
        writer.close()

    def reply(request: SSHPacket) -> bytes:
        kind = request.get_byte()
        if kind == 11:
            listed = b"".join(String(blob) + String(b"") for blob in blobs)
            return Byte(12) + UInt32(len(blobs)) + listed
        assert kind == 13, f"an agent has no answer to {kind}"
        key, data = blobs[request.get_string()], request.get_string()
        return Byte(14) + String(key.sign(data, key.sig_algorithms[0]))

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield
        server.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
