"""docs/plan.md and docs/settings.md against the models: examples are valid, fields complete, defaults true."""

from __future__ import annotations

import base64
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

import settings as s
from domain import plan as p

ROOT = Path(__file__).resolve().parents[2]
PLAN = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
POLICY = (ROOT / "deploy" / "vault-policy.hcl").read_text(encoding="utf-8")

PLAN_SECTIONS: Mapping[str, type[BaseModel]] = {
    "## Top level": p.Plan,
    "## `[certificate]`": p.CertificateSpec,
    "## `[[endpoints]]`": p.Endpoint,
    "### `[[endpoints.nodes]]`": p.Node,
    "### `[endpoints.srv]`": p.SrvPreference,
    "### `[endpoints.substitutes]`": p.Substitutes,
    "### `[endpoints.authority]`": p.Authority,
    "### `[endpoints.observer]`": p.TrunkObserver,
    "## `[tls]`": p.TlsWindow,
    "## `[thresholds]`": p.Thresholds,
    "## `[timings]`": p.Timings,
    "## `[approvals]`": p.Approvals,
    "## `[notifications]`": p.Notifications,
}
SETTINGS_SECTIONS: Mapping[str, type[BaseModel]] = {
    "## Top level": s.Settings,
    "## Secrets": s.SecretSource,
    "## `[codec]`": s.CodecSettings,
    "## `[platforms.<name>]`, kind `genesys`": s.GenesysProfile,
    "`[platforms.<name>.paths]`, kind `genesys`": s.GenesysPaths,
    "## `[platforms.<name>]`, kind `cxone`": s.CxoneProfile,
    "`[platforms.<name>.paths]`, kind `cxone`": s.CxonePaths,
    "## `[platforms.<name>]`, kind `haproxy`": s.HaproxyProfile,
    "Nodes of kind `haproxy`": s.HaproxyHost,
    "## `[platforms.<name>]`, kind `kamailio`": s.KamailioProfile,
    "Nodes of kind `kamailio`": s.KamailioHost,
    "Canary of kind `sni`": s.SniCanary,
    "Canary of kind `port`": s.PortCanary,
    "Files of an edge, kind `local`": s.LocalDirectory,
    "Files of an edge, kind `sftp`": s.SftpDirectory,
    "## Counters of an edge": s.PrometheusSource,
    "## `[pki.<name>]`, kind `vault`": s.VaultPkiProfile,
    "## `[keys.<name>]`, kind `vault-kv`": s.VaultKvProfile,
    "## `[dns.<name>]`, kind `rfc2136`": s.Rfc2136Profile,
    "## `[carriers.<name>]`, kind `http-health`": s.CarrierProfile,
    "## `[observers.<name>]`, kind `genesys`": s.GenesysObserverProfile,
    "## `[metrics.<name>]`, kind `prometheus`": s.PrometheusMetricsProfile,
    "`[metrics.<name>.queries]`, kind `prometheus`": s.PrometheusQueries,
    "## `[metrics.<name>]`, kind `datadog`": s.DatadogMetricsProfile,
    "`[metrics.<name>.queries]`, kind `datadog`": s.DatadogQueries,
    "`[metrics.<name>.labels]` and `[metrics.<name>.tags]`": s.LabelNames,
    "## `[notify.<name>]`, kind `webhook`": s.WebhookProfile,
    "## `[notify.<name>]`, kind `slack`": s.SlackProfile,
    "## `[notify.<name>]`, kind `pagerduty`": s.PagerDutyProfile,
    "## `[notify.<name>]`, kind `smtp`": s.SmtpProfile,
    "## `[probe]`": s.ProbeSettings,
    "## `[ntp]`": s.NtpSettings,
}


def fields_table(text: str, heading: str) -> dict[str, str]:
    """Field and default of the first table after a line that begins with `heading`."""
    found = re.search(rf"^{re.escape(heading)}[^\n]*\n", text, re.MULTILINE)
    assert found, f"there is no {heading!r}"
    table: dict[str, str] = {}
    for line in text[found.end() :].splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[0].startswith("`"):
                assert cells[0] not in table, f"{heading}: {cells[0]} twice"
                table[cells[0].strip("`")] = cells[1]
        elif table:
            break
    return table


def toml_example(text: str) -> str:
    """The first TOML block."""
    return text.partition("```toml\n")[2].partition("```")[0]


def default_of(field: FieldInfo) -> Any:
    """The default as it is after validation."""
    if field.validate_default:
        return TypeAdapter(s.Duration).validate_python(field.default)
    return field.default


def agrees(shown: str, field: FieldInfo) -> bool:
    """Whether the text of a default is the field's default."""
    if field.is_required():
        return shown == "required"
    default = default_of(field)
    if default is None:
        return shown == "none"
    if isinstance(default, BaseModel):
        return shown == "table"
    text = shown.removeprefix("`").removesuffix("`")
    if isinstance(default, tuple) and isinstance(default[0] if default else None, timedelta):
        return [p.duration_text(one) for one in default] == tomllib.loads(f"value = {text}")["value"]
    if isinstance(default, timedelta):
        return bool(TypeAdapter(p.Duration).validate_python(text) == default)
    if isinstance(default, bool | int | float | tuple | dict):
        value = tomllib.loads(f"value = {text}")["value"]
        return bool(value == (list(default) if isinstance(default, tuple) else default))
    return text == (default.value if isinstance(default, Enum) else str(default))


def every_model(base: type[BaseModel]) -> set[type[BaseModel]]:
    """All models below a base."""
    home = base.__module__.removesuffix(".base")
    below = {sub for sub in base.__subclasses__() if sub.__module__.startswith(home)}
    return below.union(*(every_model(sub) for sub in below))


@pytest.mark.parametrize(
    ("document", "heading", "model"),
    [
        *((PLAN, heading, model) for heading, model in PLAN_SECTIONS.items()),
        *((SETTINGS, heading, model) for heading, model in SETTINGS_SECTIONS.items()),
    ],
    ids=[*(f"plan {h}" for h in PLAN_SECTIONS), *(f"settings {h}" for h in SETTINGS_SECTIONS)],
)
def test_every_field_is_described_with_its_default(document: str, heading: str, model: type[BaseModel]) -> None:
    shown = fields_table(document, heading)
    assert set(shown) == set(model.model_fields), f"{heading} against {model.__name__}"
    wrong = {name: text for name, text in shown.items() if not agrees(text, model.model_fields[name])}
    assert not wrong, f"{heading}: other defaults than in {model.__name__}: {wrong}"


def test_no_model_is_left_out() -> None:
    assert every_model(p.PlanModel) == set(PLAN_SECTIONS.values())
    bases = {s.HttpProfile, s.GenesysLogin, s.VaultAddress, s.MetricMeaning, s.MetricQueries}
    assert every_model(s.SettingsModel) - bases == set(SETTINGS_SECTIONS.values()) - {s.Settings}


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_the_example_plan_is_valid_and_may_run_on_live_trunks() -> None:
    example = p.parse_plan(toml_example(PLAN))
    assert p.limits_undercut(example) == []
    assert {endpoint.topology for endpoint in example.endpoints} == {
        p.Topology.SAME_LISTENER,
        p.Topology.SEPARATE_SRV_TARGETS,
    }


def test_the_example_states_the_defaults_where_it_states_any() -> None:
    example = p.parse_plan(toml_example(PLAN))
    assert example.tls == p.TlsWindow()
    assert example.thresholds == p.Thresholds()
    assert example.timings == p.Timings()
    assert example.approvals == p.Approvals()


def test_what_is_said_to_be_required_is_all_that_is_required() -> None:
    required = {name for name, field in p.Plan.model_fields.items() if field.is_required()}
    assert required == {"name", "certificate", "endpoints", "notifications"}
    assert "Only `name`, `[certificate]`, `[[endpoints]]` and `[notifications]` have to be there." in PLAN


def test_every_limit_of_a_live_trunk_is_listed_with_its_figure() -> None:
    low = {"consecutive_alerts": 99, "setup_margin": 0.5}
    thresholds = p.Thresholds.model_construct(
        **{name: low.get(name, 0.01 if "." in str(f.default) else 1) for name, f in p.Thresholds.model_fields.items()}
    )
    least, most = timedelta(milliseconds=1), timedelta(hours=1000)
    long = {"guard_hot", "guard_overlap", "stale_after"}
    timings = p.Timings.model_construct(**{name: most if name in long else least for name in p.Timings.model_fields})
    plan = p.parse_plan(toml_example(PLAN)).model_copy(update={"thresholds": thresholds, "timings": timings})
    listed = PLAN.partition("## What a lab may undercut")[2]
    rows = {cells[0]: cells[1] for cells in re.findall(r"^\| `([\w.]+)` \| ([^|]+?) \|", listed, flags=re.MULTILINE)}
    undercut = p.limits_undercut(plan)
    assert len(undercut) == len(rows)
    for text in undercut:
        field, _, rest = text.partition(" = ")
        assert rest.endswith(f", {rows[field]}"), text


def test_every_choice_is_named() -> None:
    for choices in (p.KeyType, p.TrunkRole, p.Topology):
        for choice in choices:
            assert f"`{choice.value}`" in PLAN, choice


# -- the settings ------------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> s.Settings:
    """The example of the page, loaded as a worker loads it."""
    monkeypatch.setenv(s.SETTINGS_VARIABLE, "")
    text = toml_example(SETTINGS)
    for name in re.findall(r'env = "(\w+)"', text):
        monkeypatch.setenv(name, base64.b64encode(bytes(32)).decode())
    for number, path in enumerate(dict.fromkeys(re.findall(r'file = "([^"]+)"', text))):
        secret = tmp_path / f"secret-{number}"
        secret.write_text(base64.b64encode(bytes(32)).decode())
        text = text.replace(path, str(secret))
    (tmp_path / "settings.toml").write_text(text)
    return s.load_settings(tmp_path / "settings.toml")


def test_the_example_settings_are_valid_with_secrets_from_the_environment(example: s.Settings) -> None:
    from codec.encryption import load_keyring

    assert load_keyring(example.codec).current == "2026-11"
    assert example.platforms["genesys-eu"].kind == "genesys"
    assert example.carriers["acme"].token.read("carriers.acme.token").get_secret_value()


def test_the_example_plan_uses_profiles_of_the_example_settings(example: s.Settings) -> None:
    plan = p.parse_plan(toml_example(PLAN))
    assert plan.certificate.ca in example.pki
    assert plan.certificate.custody in example.keys
    assert {endpoint.platform for endpoint in plan.endpoints} <= set(example.platforms)
    assert {endpoint.carrier for endpoint in plan.endpoints} <= set(example.carriers)
    assert {endpoint.srv.dns for endpoint in plan.endpoints if endpoint.srv} <= set(example.dns)
    assert {*plan.notifications.desks, plan.notifications.carrier} <= set(example.notify)
    assert not any(profile.lab for profile in example.platforms.values())


def test_the_environment_overrides_as_the_page_says(
    example: s.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = SETTINGS.partition("## Environment")[2].partition("```sh\n")[2].partition("```")[0]
    text = (tmp_path / "settings.toml").read_text().replace("[platforms.cxone-eu]", "[platforms.eu]")
    (tmp_path / "settings.toml").write_text(text)
    for line in shown.splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    changed = s.load_settings(tmp_path / "settings.toml")
    assert changed.identity == "ann"
    assert changed.platforms["eu"].base_url == "https://api.mypurecloud.ie"
    assert changed.probe.rate_per_endpoint == 2
    monkeypatch.setenv("SIP_ROTATE__PLATFORMS__GENESYS-EU__TIMEOUT", "3s")
    monkeypatch.setenv("SIP_ROTATE__NO_SUCH_SETTING", "x")
    again = s.load_settings(tmp_path / "settings.toml")
    assert again.platforms["genesys-eu"].timeout == timedelta(seconds=3)
    assert example.platforms["genesys-eu"].timeout == timedelta(seconds=2)


def test_the_names_to_replace_in_the_policy_are_those_that_stand_in_it() -> None:
    policy = SETTINGS.partition("### The policy")[2].partition("## `[dns.")[0]
    names = re.findall(r"^\| `([\w-]+)` \|", policy, flags=re.MULTILINE)
    assert len(names) == 5
    for name in names:
        assert re.search(rf'^path "[^"]*\b{re.escape(name)}\b', POLICY, flags=re.MULTILINE), name


def test_temporals_variables_are_those_that_its_sdk_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from temporalio.envconfig import ClientConfigProfile

    named = set(re.findall(r"`(TEMPORAL_\w+)`", SETTINGS))
    values = {name: f"of-{name}" for name in named - {"TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE"}}
    values["TEMPORAL_TLS"] = "true"
    read = ClientConfigProfile.load(disable_file=True, override_env_vars=values)
    assert read.address == "of-TEMPORAL_ADDRESS"
    assert read.namespace == "of-TEMPORAL_NAMESPACE"
    assert read.api_key == "of-TEMPORAL_API_KEY"
    assert read.tls is not None
    assert read.tls.server_name == "of-TEMPORAL_TLS_SERVER_NAME"
    assert str(read.tls.client_cert) == "of-TEMPORAL_TLS_CLIENT_CERT_PATH"
    assert str(read.tls.client_private_key) == "of-TEMPORAL_TLS_CLIENT_KEY_PATH"
    assert str(read.tls.server_root_ca_cert) == "of-TEMPORAL_TLS_SERVER_CA_CERT_PATH"
