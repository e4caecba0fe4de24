"""The command line without a server: what is wrong is named, with an exit code for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from desk.exit_codes import MEANINGS, markdown_table
from desk.start_text import details
from domain.plan import load_plan
from settings import SETTINGS_VARIABLE
from tests.desk.conftest import Run

ROOT = Path(__file__).resolve().parents[2]


def test_a_wrong_plan_names_field_line_and_nearest_key(run: Run, write_plan: Callable[..., str]) -> None:
    result = run("plan", write_plan(('overlap = "72h"', 'overlapp = "72h"')), "--offline")
    assert result.exit_code == 2
    assert "timings.overlapp (line 29): unknown key; did you mean 'overlap'?" in result.stderr


def test_every_problem_of_a_plan_is_reported_at_once(run: Run, write_plan: Callable[..., str]) -> None:
    plan = write_plan(('carrier = "acme"\n', ""), ("success = 0.995", "success = 1.5"))
    result = run("start", plan)
    assert result.exit_code == 2
    assert "carrier" in result.stderr
    assert "thresholds.success" in result.stderr


def test_a_plan_that_does_not_exist_is_named(run: Run) -> None:
    result = run("plan", "/nowhere/plan.toml")
    assert result.exit_code == 2
    assert "/nowhere/plan.toml" in result.stderr


def test_an_offline_plan_is_told_phase_by_phase_without_settings_or_server(
    run: Run, write_plan: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTINGS_VARIABLE, "/nowhere/settings.toml")
    result = run("plan", write_plan(('overlap = "72h"', 'overlap = "1h"')), "--offline")
    assert result.exit_code == 0, result.stderr
    for words in ("PREFLIGHT", "SOAK", "15m", "until 1h after BIND", "a person approves `prefer` and `remove`"):
        assert words in result.stdout
    assert "timings.overlap = 1h, at least 72h" in result.stdout


def test_an_offline_plan_as_json_holds_plan_steps_and_undercut_limits(run: Run, write_plan: Callable[..., str]) -> None:
    told = json.loads(run("plan", write_plan(('overlap = "72h"', 'overlap = "1h"')), "--offline", "--json").stdout)
    assert told["plan"]["name"] == "east-2026"
    assert [step["phase"] for step in told["steps"]][:2] == ["PREFLIGHT", "ISSUE"]
    assert told["lab_limits"] == ["timings.overlap = 1h, at least 72h"]
    assert told["dry_run"] is None


def test_a_plan_without_approvals_has_no_waiting_phase(run: Run, write_plan: Callable[..., str]) -> None:
    plan = write_plan(("[thresholds]", "[approvals]\nprefer = false\nremove = false\n\n[thresholds]"))
    assert "APPROVE" not in run("plan", plan, "--offline").stdout


def test_an_observer_is_shown_beside_the_carrier(run: Run, write_plan: Callable[..., str]) -> None:
    observer = '[endpoints.observer]\nprofile = "byoc"\ntrunk = "trunk-9"\n\n[thresholds]'
    plan = write_plan(("[thresholds]", observer))
    assert "observer byoc" in " ".join(run("plan", plan, "--offline").stdout.split())
    assert "carrier `acme`, observer `byoc`" in details(load_plan(Path(plan)))


@pytest.mark.parametrize(
    "verb", [("list",), ("status", "x"), ("approve", "x", "prefer"), ("rollback", "x")], ids=lambda verb: verb[0]
)
class TestEveryVerb:
    def test_names_missing_settings(self, run: Run, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]) -> None:
        monkeypatch.setenv(SETTINGS_VARIABLE, "/nowhere/settings.toml")
        result = run(*verb)
        assert result.exit_code == 2
        assert "/nowhere/settings.toml: the settings file does not exist" in result.stderr

    def test_names_a_missing_encryption_key(self, run: Run, settings_file: Path, verb: tuple[str, ...]) -> None:
        (settings_file.parent / "codec.key").unlink()
        result = run(*verb)
        assert result.exit_code == 2
        assert "codec.keys.k1" in result.stderr

    def test_names_the_temporal_that_does_not_answer(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
        result = run(*verb)
        assert result.exit_code == 5
        assert "127.0.0.1:1: Temporal does not answer" in result.stderr
        assert result.stdout == ""


def test_an_unknown_fault_is_refused_with_the_known_ones(run: Run) -> None:
    result = run("demo", "--fault", "metrics-emptyy")
    assert result.exit_code == 2
    assert "metrics-empty " in result.stderr


def test_an_unknown_phase_is_refused(run: Run) -> None:
    assert run("list", "--phase", "bogus").exit_code == 2


def test_help_lists_every_exit_code(run: Run) -> None:
    text = " ".join(run("--help").stdout.split())
    for code, meaning in MEANINGS.items():
        assert f"{code.value} {meaning}" in text


def test_the_documented_exit_codes_are_those_of_the_program() -> None:
    assert markdown_table() in (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
