"""The table of losses as files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.figures import CallFigures, Gap, HandshakeFigures, Latency, Second
from bench.loss import LossTable, row_size
from bench.machine import Machine, cpu_model, version_in
from bench.plot import marks
from bench.report import cells, markdown, write
from bench.rows import Measured, RowSize

MACHINE = Machine("Some CPU", 2, 8.0, "Linux 6.1 x86_64", {"haproxy": "2.6.12"}, "2026-01-02 03:04 UTC", "abc")
ROTATION = Measured(
    key="haproxy-rotation",
    title="HAProxy, rotation",
    is_rotation=True,
    begun=1000.0,
    seconds=60.0,
    ended="COMPLETED",
    trouble=None,
    calls={"own": CallFigures(100, 100, 0, 0), "one": CallFigures(50, 50, 0, 0)},
    other_peer=CallFigures(20, 20, 0, 0),
    handshakes=HandshakeFigures(
        500, 0, {}, Gap(1003.0, 41.6), Latency(200, 1.94, 7.06), Latency(300, 2.0, 8.0), other=0
    ),
    drain_s=16.25,
    phases={"PREFLIGHT": 10.0, "PREFER": 16.0, "REMOVE": 32.25},
    timeline=(Second(0, 250, 0, 1.9, 7.0), Second(1, 250, 0, 2.0, 8.0)),
    load_average=(0.5, 1.5),
)
RESTART = replace(
    ROTATION,
    key="haproxy-restart",
    title="HAProxy, files replaced, restart",
    is_rotation=False,
    ended="restarted",
    calls={"own": CallFigures(100, 70, 0, 1, ("FailedTcpClosed 30",)), "one": CallFigures(50, 48, 1, None)},
    handshakes=HandshakeFigures(
        500, 9, {"connection refused": 9}, Gap(1020.0, 1370.0), Latency(200, 1.9, 7.0), Latency(0, None, None), other=0
    ),
    drain_s=None,
    phases={"restart": 20.0},
    timeline=(Second(20, 9, 9, None, None), Second(21, 5, 0, 2.0, 2.0)),
)


def table(*rows: Measured) -> LossTable:
    return LossTable("python -m bench loss", MACHINE, RowSize(150, 500, 25), rows)


def test_a_line_of_the_table_has_every_figure() -> None:
    assert cells(ROTATION) == [
        "HAProxy, rotation", "150", "**0**", "0", "20, **0**", "500", "**0**", "**42 ms**",
        "1.9 / 7.1 ms", "2.0 / 8.0 ms", "16.2 s", "COMPLETED",
    ]  # fmt: skip
    assert cells(RESTART) == [
        "HAProxy, files replaced, restart", "150", "**32**", "1", "20, **0**", "500", "**9**",
        "**1370 ms**", "1.9 / 7.0 ms", "–", "n/a", "restarted",
    ]  # fmt: skip


def test_every_line_of_the_table_has_as_many_cells_as_its_head() -> None:
    lines = [line for line in markdown(table(ROTATION, RESTART)).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1


def test_the_text_says_what_was_lost_how_and_where_it_was_measured() -> None:
    text = markdown(table(ROTATION, replace(RESTART, trouble="something else")))
    for expected in (
        "300 calls and 1000 handshakes in all",
        "own: 100 placed, 30 lost (FailedTcpClosed 30), SIPp's exit code 1",
        "one: 50 placed, 2 lost, killed, its calls did not end",
        "failed: connection refused (9)",
        "longest gap: 1370 ms, from 20.0 s on",
        "PREFER at 16.0 s",
        "ended: restarted; something else",
        "Some CPU, 2 cores, 8.0 GiB; Linux 6.1 x86_64",
        "haproxy 2.6.12",
        "`python -m bench loss`",
    ):
        assert expected in text


@pytest.mark.parametrize(
    "harm",
    [
        {"trouble": "rolled back"},
        {"calls": {"own": CallFigures(10, 9, 0, 0)}},
        {"calls": {"own": CallFigures(10, 10, 0, 1)}},
        {"calls": {"own": CallFigures(10, 10, 0, None)}},
        {"other_peer": CallFigures(10, 9, 0, 0)},
        {"handshakes": replace(ROTATION.handshakes, failed=1)},
        {"handshakes": replace(ROTATION.handshakes, other=1)},
    ],
)
def test_a_rotation_that_lost_anything_is_no_success(harm: dict[str, object]) -> None:
    assert table(ROTATION, RESTART).rotations_lost_nothing
    assert not table(ROTATION, replace(ROTATION, **harm)).rotations_lost_nothing


def test_phases_that_follow_at_once_share_a_mark_and_the_others_do_not() -> None:
    phases = {"BIND": 10.0, "READINESS": 10.5, "PREFER": 16.0, "VERIFY": 16.8, "DRAIN": 22.0}
    assert marks(phases, apart_s=2.0) == [(10.0, "BIND"), (16.0, "PREFER, VERIFY"), (22.0, "DRAIN")]


def test_three_files_are_written(tmp_path: Path) -> None:
    write(table(ROTATION, RESTART), tmp_path / "results")
    written = json.loads((tmp_path / "results/loss.json").read_text())
    rotation, restart = written["rows"]
    assert rotation["calls"]["own"]["lost"] == 0
    assert restart["calls"]["own"]["lost"] == 30
    assert restart["timeline"]["rows"][0] == [20, 9, 9, None, None]
    assert written["machine"]["cores"] == 2
    assert (tmp_path / "results/loss.md").read_text() == markdown(table(ROTATION, RESTART))
    assert (tmp_path / "results/loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_rows_share_calls_and_handshakes_and_none_is_left_over() -> None:
    size = row_size(10_001, 100_000, 25, 4)
    assert (size.calls, size.handshakes) == (2501, 25_000)
    assert size.seconds == pytest.approx(100.04)
    assert size.pace.handshakes * size.seconds == pytest.approx(25_000)


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12-1+deb12u4"),
        ("version: kamailio 5.6.3 (x86_64/linux) \n", "5.6.3"),
        ("\n SIPp v3.6.1-SCTP-PCAP-RTPSTREAM.\n", "3.6.1-SCTP-PCAP-RTPSTREAM"),
        ("OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19)", "3.0.19"),
    ],
)
def test_a_program_says_its_version(said: str, version: str) -> None:
    assert version_in(said) == version


def test_a_program_that_says_none_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="no version"):
        version_in("usage: thing [-h]")


def test_the_cpu_is_named_where_the_kernel_knows_it() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n") == "Some CPU @ 3 GHz"
    assert cpu_model("processor\t: 0\n") == "unknown"
