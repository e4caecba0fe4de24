"""What Kamailio answers: the routes of deploy/kamailio/rotation.cfg, and the JSON-RPC commands of its modules."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue

CONTRACT = 1
"""The version of rotation.cfg that this adapter knows."""


class Answer(BaseModel):
    """Fields that we do not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class OfSerial(Answer):
    """Connections and calls on one certificate of ours; `serial` as Kamailio writes it."""

    serial: str
    connections: int
    calls: int = Field(ge=0)


class State(Answer):
    """`GET /rotation/state`. Times are seconds since 1970; `loaded` is what we noted last, empty after a start."""

    contract: int
    trunk: str
    started: int
    now: int
    loaded: str
    certificates: tuple[OfSerial, ...]


class Closing(Answer):
    """`POST /rotation/close/<serial>`: how many connections there were, and how many wait for a moment of rest."""

    open: int = Field(ge=0)
    left: int = Field(ge=0)


class RpcError(Answer):
    """Why a command was refused."""

    code: int
    message: str


class RpcAnswer(Answer):
    """JSON-RPC 2.0: either of the two."""

    result: JsonValue = None
    error: RpcError | None = None


class TcpInfo(Answer):
    """`core.tcp_info`: `readers` is tcp_children."""

    readers: int


class TcpOptions(Answer):
    """`core.tcp_options`: seconds after which an idle connection is closed, -1 for never."""

    connection_lifetime: int


class TlsOptions(Answer):
    """`tls.options`: seconds until the first message; the file; below how much free memory TLS refuses to work."""

    connection_timeout: int
    config: str
    low_mem_threshold1: int


class SharedMemory(Answer):
    """`core.shmmem`, in bytes."""

    free: int


class Socket(Answer):
    """One entry of `corex.list_sockets`."""

    protocol: str = Field(alias="PROTO")
    port: str = Field(alias="PORT")
