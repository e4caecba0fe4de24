"""What a Kamailio's own configuration lacks or does unsafely, by asking the running process (see deploy/kamailio).

One function per rule; each gives a sentence with what was seen and what to do for everything that it finds.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from adapters.edges.kamailio.host import KamailioNode, RpcRefused
from adapters.edges.kamailio.look import Look
from adapters.edges.kamailio.sections import Owned, owned_by
from adapters.edges.kamailio.tls import CERTIFICATE, PRIVATE_KEY, directory_of, file_name
from adapters.edges.kamailio.wire import SharedMemory, Socket, TcpInfo, TcpOptions, TlsOptions
from domain.errors import RequestRefused, UnexpectedAnswer
from domain.plan import duration_text
from settings import KamailioProfile, PortCanary

MODULES: Final = frozenset(
    {"tls", "tm", "tmx", "dialog", "htable", "tcpops", "rtimer", "jsonrpcs", "xhttp", "ipops", "kex", "corex"}
)
"""What rotation.cfg works with."""

PROCESS_SAFE: Final = (5, 8)
"""The first version that can keep OpenSSL 3's state apart between processes (tls_threads_mode)."""

SPARE: Final = 20 * 600 * 1024
"""Bytes that have to be free beyond the threshold below which TLS stops: for twenty reloads, each of which keeps some
600 KiB for good (5.6.3, twelve processes, four sections)."""

Problems = tuple[str, ...]
Check = Callable[[KamailioNode, KamailioProfile], Awaitable[Problems]]


async def problems_of(node: KamailioNode, profile: KamailioProfile) -> Problems:
    """Everything that is wrong with one node. Raises what is no matter of configuration, `Unreachable` for example."""
    found: list[str] = []
    for check in (rotation_is_included, children, lifetimes, modules, memory, canary_listener, tls_file):
        try:
            found += await check(node, profile)
        except RpcRefused as refused:
            found.append(f"a command is not known ({refused.message}): load the modules of rotation.cfg")
        except (RequestRefused, UnexpectedAnswer) as error:
            found.append(f"{error.what}{f' ({error.seen})' if error.seen else ''}: {error.action}")
    return tuple(f"{node.name}: {problem}" for problem in dict.fromkeys(found))


async def rotation_is_included(node: KamailioNode, profile: KamailioProfile) -> Problems:
    """Its routes answer, for this trunk, in a version that we know."""
    await node.state()
    return ()


async def children(node: KamailioNode, profile: KamailioProfile) -> Problems:
    """5.6 and 5.7 with OpenSSL 3 corrupt their memory with more than one TCP process (kamailio issue 3791)."""
    text = await node.ask("core.version", str)
    version = re.search(r"(\d+)\.(\d+)", text)
    readers = (await node.ask("core.tcp_info", TcpInfo)).readers
    if version is not None and (int(version[1]), int(version[2])) >= PROCESS_SAFE:
        return ()
    if readers > 1:
        return (f"tcp_children = {readers} crashes {text.strip()} with OpenSSL 3: set tcp_children=1",)
    return ()


async def lifetimes(node: KamailioNode, profile: KamailioProfile) -> Problems:
    """No idle connection is closed under the longest call: its BYE would have to open another."""
    tcp = (await node.ask("core.tcp_options", TcpOptions)).connection_lifetime
    tls = (await node.ask("tls.options", TlsOptions)).connection_timeout
    longest = int(profile.longest_call.total_seconds())
    needed = f"the longest call lasts {duration_text(profile.longest_call)}: set it to {longest} or more"
    return tuple(
        f"{setting} = {seconds} s, and {needed}"
        for setting, seconds in (("tcp_connection_lifetime", tcp), ("tls connection_timeout", tls))
        if 0 <= seconds < longest
    )


async def modules(node: KamailioNode, profile: KamailioProfile) -> Problems:
    """Everything that counts and closes is loaded."""
    missing = sorted(MODULES - set(await node.ask("core.modules", list[str])))
    return (f"modules are missing: load {', '.join(missing)}",) if missing else ()


async def memory(node: KamailioNode, profile: KamailioProfile) -> Problems:
    """Below its threshold TLS refuses new connections, and every reload takes some memory for good."""
    free = (await node.ask("core.shmmem", SharedMemory)).free
    threshold = (await node.ask("tls.options", TlsOptions)).low_mem_threshold1
    if free >= threshold + SPARE:
        return ()
    return (
        f"{free // 2**20} MiB of shared memory are free and TLS stops below {threshold // 2**20} MiB: "
        "restart Kamailio with more (-m)",
    )


async def canary_listener(node: KamailioNode, profile: KamailioProfile) -> Problems:
    """Where the canary is a port, something listens there."""
    if not isinstance(profile.canary, PortCanary):
        return ()
    sockets = await node.ask("corex.list_sockets", list[Socket])
    if any((one.protocol, one.port) == ("tls", str(profile.canary.port)) for one in sockets):
        return ()
    return (f"no TLS listener on port {profile.canary.port}, the canary's: define CANARY_LISTENER",)


async def tls_file(node: KamailioNode, profile: KamailioProfile) -> Problems:
    """The file is the one that Kamailio loads, it can be rotated, and what it says is what runs."""
    loaded = file_name((await node.ask("tls.options", TlsOptions)).config)
    if loaded != profile.tls_config:
        return (f"Kamailio loads {loaded}, the settings say {profile.tls_config}: make them the same",)
    owned, wrong = owned_by(await node.tls(), profile)
    return wrong if owned is None else (*_files(await node.look(), owned),)


def _files(look: Look, owned: Owned) -> Problems:
    found = []
    paths = [section.value(setting) for section in owned.all() for setting in (CERTIFICATE, PRIVATE_KEY)]
    if len(directories := {directory_of(path) for path in paths}) > 1:
        seen = ", ".join(sorted(map(str, directories)))
        found.append(f"the sections that are rotated name files in several directories ({seen}): move them into one")
    for section in owned.all():
        if look.leaf_in(section) is None:
            path = section.value(CERTIFICATE)
            found.append(f"[{section.name}] names {path}, which is not in the directory of the settings: move it there")
    if owned.client is not None and look.leaf_in(owned.client) != look.leaf_in(owned.server):
        found.append(f"[{owned.client.name}] and [{owned.server.name}] present different certificates: make them one")
    if not found and look.served is not None and not look.in_force:
        found.append("what is served is not what tls.cfg says: load it (tls.reload) or put the file right")
    return tuple(found)
