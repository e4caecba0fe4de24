"""What HAProxy 2.6.12 answered, read; and what it never answered, refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.edges.haproxy import answers
from domain.errors import UnexpectedAnswer

PROC = """#<PID>          <type>          <reloads>       <uptime>        <version>
3428            master          1 [failed: 0]   0d00h00m00s     2.6.12-1+deb12u4
# workers
3436            worker          0               0d00h00m00s     2.6.12-1+deb12u4
# old workers
3431            worker          1               0d00h00m00s     2.6.12-1+deb12u4
3429            worker          2               0d00h00m09s     2.6.12-1+deb12u4
# programs
"""
INFO = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 3436\nUptime_sec: 65\nStart_time_sec: 1795547101"
STAT = (
    "# pxname,svname,qcur,qmax,scur,smax,slim,stot,status,type,ssl_sess,ssl_reused_sess,ssl_failed_handshake,\n"
    "trunk,FRONTEND,,,2,2,9000,2,OPEN,0,0,0,0,\n"
    "trunk-tls-one,FRONTEND,,,1,2,9000,2,STOP,0,9,3,1,\n"
    "trunk-pool,one,0,0,2,2,,46,no check,2,,,,\n"
)
STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change
16 trunk-pool 1 one - 2 0 100 100 32 1 0 2 0 0 0 0 - 0 - 0 0 - - 0
16 trunk-pool 2 two - 0 5 0 0 32 1 0 0 8 0 0 0 - 0 - 0 0 - - 0
17 trunk-canary-pool 1 one - 2 12 5 0 1 0 0 8 0 0 0 - 0 - 0 0 - - 0
17 trunk-canary-pool 2 two - 2 4 7 0 1 0 0 8 0 0 0 - 0 - 0 0 - - 0
"""
CERTIFICATE = """Filename: /etc/haproxy/sip/trunk-one.pem
Status: Used
Serial: 1A551CF851AA7925295890EBE65EF2607F5D8D43
notBefore: Nov 23 18:44:48 2026 GMT
Subject Alternative Name: DNS:trunk.example.com
SHA1 FingerPrint: A043FB4D804140B63DCA7B3B715F6CBA792F054C
Subject: /CN=trunk.example.com
Issuer: /CN=edge test intermediate
Chain Subject: /CN=edge test intermediate
OCSP Response Key: """
SESSIONS = """0x55d7482288b0: proto=tcpv4 src=127.0.0.1:54895 fe=trunk be=trunk-pool srv=one ts=00 epoch=0 age=0s calls=2 rate=2 cpu=0
0x55d7481ea9a0: proto=unix_stream src=unix:1 fe=trunk-tls-one be=trunk-sip-one srv=sip ts=00 epoch=0 age=0s calls=12 rate=2
0x7fb8e40389e0: proto=sockpair src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s calls=1 rate=1 cpu=0"""  # noqa: E501


def test_old_workers_are_those_from_before_a_reload() -> None:
    assert answers.old_workers(PROC, "node") == (3431, 3429)
    assert answers.old_workers(PROC.partition("# old workers")[0] + "# programs", "node") == ()


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("Unknown command: 'show proc'", "give the address of -S"),
        ("# workers\n# programs", "no worker runs"),
        ("# workers\n# old workers\n3431 worker 1 0d00h00m00s 2.6.12", "no worker runs"),
        ("", "give the address of -S"),
    ],
)
def test_a_command_line_without_a_worker_is_no_edge(answer: str, action: str) -> None:
    with pytest.raises(UnexpectedAnswer, match=action):
        answers.old_workers(answer, "node")


def test_a_process_tells_its_version_start_and_clock() -> None:
    found = answers.process(INFO, "node")
    assert found.version == (2, 6)
    assert found.started_at == datetime.fromtimestamp(1795547101, UTC)
    assert (found.clock - found.started_at).total_seconds() == 66


@pytest.mark.parametrize("lost", ["Version", "Uptime_sec", "Start_time_sec"])
def test_a_process_that_does_not_tell_them_is_strange(lost: str) -> None:
    answer = "\n".join(line for line in INFO.splitlines() if not line.startswith(lost))
    with pytest.raises(UnexpectedAnswer, match="show info"):
        answers.process(answer, "node")


def test_statistics_are_read_by_the_names_of_their_columns() -> None:
    assert answers.statistics(STAT, "node") == (
        answers.Statistic("trunk", "FRONTEND", 2, "OPEN", 0),
        answers.Statistic("trunk-tls-one", "FRONTEND", 1, "STOP", 3),
        answers.Statistic("trunk-pool", "one", 2, "no check", 0),
    )


@pytest.mark.parametrize("answer", ["# pxname,scur\ntrunk,1", "# pxname,svname,scur,status\ntrunk,FRONTEND,many,OPEN"])
def test_statistics_of_another_shape_are_strange(answer: str) -> None:
    with pytest.raises(UnexpectedAnswer, match="show stat"):
        answers.statistics(answer, "node")


def test_a_server_in_maintenance_has_no_weight_and_a_drained_one_weighs_nothing() -> None:
    """Admin state 4 alone says that the configuration had it disabled once: it serves."""
    found = {(state.pool, state.name): state.weight for state in answers.server_states(STATES, "node")}
    assert found == {
        ("trunk-pool", "one"): 100,
        ("trunk-pool", "two"): None,
        ("trunk-canary-pool", "one"): 0,
        ("trunk-canary-pool", "two"): 7,
    }


@pytest.mark.parametrize("answer", ["", "2\n# another version", "1\n16 trunk-pool 1 one", "Can't find backend."])
def test_server_states_of_another_shape_are_strange(answer: str) -> None:
    with pytest.raises(UnexpectedAnswer, match="show servers state"):
        answers.server_states(answer, "node")


def test_a_loaded_certificate_is_told_by_its_sha1() -> None:
    found = answers.loaded(CERTIFICATE)
    assert found is not None
    assert found.sha1 == "a043fb4d804140b63dca7b3b715f6cba792f054c"
    assert found.serial == "1A551CF851AA7925295890EBE65EF2607F5D8D43"
    assert not found.is_placeholder
    empty = CERTIFICATE.replace("/CN=trunk.example.com", "/CN=empty slot")
    assert answers.loaded(empty).is_placeholder is False, "somebody signed it"  # type: ignore[union-attr]
    empty = empty.replace("Issuer: /CN=edge test intermediate", "Issuer: /CN=empty slot")
    assert answers.loaded(empty).is_placeholder is True  # type: ignore[union-attr]
    assert answers.loaded("Can't display the certificate: Not found or the certificate is a bundle!") is None


def test_files_that_are_loaded_and_those_of_an_open_transaction_are_told_apart() -> None:
    listed = "# transaction\n*/etc/haproxy/sip/trunk-two.pem\n# filename\n/etc/haproxy/sip/trunk-one.pem\n/etc/x.pem"
    found = answers.loaded_files(listed, "node")
    assert found.files == ("/etc/haproxy/sip/trunk-one.pem", "/etc/x.pem")
    assert found.uncommitted == ("/etc/haproxy/sip/trunk-two.pem",)
    with pytest.raises(UnexpectedAnswer, match="show ssl cert"):
        answers.loaded_files("Permission denied", "node")


def test_sessions_are_those_between_the_pairs_that_are_asked_for() -> None:
    assert answers.sessions(SESSIONS, [("trunk-tls-one", "trunk-sip-one")]) == {"0x55d7481ea9a0": 12}
    assert answers.sessions(SESSIONS, [("trunk-tls-one", "trunk-sip-two")]) == {}
