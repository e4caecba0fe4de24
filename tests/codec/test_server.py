"""The codec server on a real socket, asked as the Web UI and the command line ask it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads

from codec.encryption import KEY_ID, EncryptionCodec, data_converter, load_keyring
from codec.server import ANSWER_LIMIT, BODY_LIMIT, application, main
from settings import CodecSettings, SecretSource
from tests.codec.test_encryption import GOOD_KEY, SECRET, codec, plain, sealed

ROOT = Path(__file__).parents[2]
UI = "http://127.0.0.1:8233"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-namespace"}


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The server on a free port, and a client without proxies."""
    config = uvicorn.Config(
        application(codec(), [UI], **options), port=0, lifespan="off", ws="none", log_level="error", access_log=False
    )
    listener = config.bind_socket()
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await running
        listener.close()


def body(*payloads: Payload) -> str:
    return json_format.MessageToJson(Payloads(payloads=payloads))


def payloads_of(answer: httpx.Response) -> list[Payload]:
    return list(json_format.ParseDict(answer.json(), Payloads()).payloads)


# -- decoding ----------------------------------------------------------------------------------------------------------


async def test_the_web_ui_gets_its_page_in_plain() -> None:
    async with serving() as client:
        answer = await client.post(
            "/decode?preserveStorageRefs=true",
            content=body(await sealed(), plain(b'"already plain"')),
            headers={"Origin": UI, "X-Namespace": "default", "Content-Type": "application/json"},
        )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == UI
    assert payloads_of(answer) == [plain(), plain(b'"already plain"')]


async def test_the_answer_has_the_shape_that_the_web_ui_reads() -> None:
    async with serving() as client:
        answer = await client.post("/decode", content=body(await sealed()))
    encoded = base64.b64encode(SECRET.encode()).decode()
    expected = {"metadata": {"encoding": base64.b64encode(b"json/plain").decode()}, "data": encoded}
    assert answer.json() == {"payloads": [expected]}


async def test_no_payloads_in_are_no_payloads_out() -> None:
    async with serving() as client:
        assert (await client.post("/decode", content="{}")).json() == {}


async def test_a_prefix_moves_the_path() -> None:
    async with serving(prefix="/codec") as client:
        assert (await client.post("/codec/decode", content=body(await sealed()))).status_code == 200
        assert (await client.post("/decode", content=body(await sealed()))).status_code == 404


async def test_what_arrives_compressed_is_shown_whole_and_an_answer_without_end_is_refused() -> None:
    long = plain(b"x" * 5_000_000)
    (packed,) = await codec().encode([long])
    async with serving() as client:
        answer = await client.post("/decode", content=body(packed, await sealed()))
        assert payloads_of(answer) == [long, plain()]
        refused = await client.post("/decode", content=body(*[packed] * 20))
    assert refused.status_code == 413
    assert refused.json() == {"error": f"the answer would be larger than {ANSWER_LIMIT} bytes: ask for fewer payloads"}


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_it_does_not_encrypt_unless_told_to_and_says_why() -> None:
    async with serving() as client:
        answer = await client.post("/encode", content=body(plain()), headers={"Origin": UI})
    assert answer.status_code == 403
    assert "only decodes" in answer.json()["error"]


async def test_told_to_it_encrypts_what_a_person_sends_from_the_web_ui() -> None:
    async with serving(encodes=True) as client:
        answer = await client.post("/encode", content=body(plain()), headers={"Origin": UI})
        assert answer.status_code == 200
        assert answer.json() != json.loads(body(plain()))
        back = await client.post("/decode", content=answer.content, headers={"Origin": UI})
        foreign = await client.post("/encode", content=body(plain()), headers={"Origin": "http://elsewhere.example"})
    assert back.json() == json.loads(body(plain()))
    assert foreign.status_code == 403


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b'{"payloads": 5}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"payloads": [' * 5000,
    ],
    ids=["empty", "no JSON", "a number", "no UTF-8", "deep", "deep payloads"],
)
async def test_what_is_no_list_of_payloads_is_refused_with_the_shape_that_is_wanted(content: bytes) -> None:
    async with serving() as client:
        answer = await client.post("/decode", content=content)
    assert answer.status_code == 400
    assert answer.json() == {"error": 'the request is not {"payloads": [{"metadata": {…}, "data": "<base64>"}]}'}


async def test_an_unknown_key_is_named_and_a_changed_payload_is_not_shown() -> None:
    unknown, changed = await sealed(), await sealed()
    unknown.metadata[KEY_ID] = b"1999"
    changed.data = changed.data[:-1] + b"\0\0"
    async with serving() as client:
        named = await client.post("/decode", content=body(unknown), headers={"Origin": UI})
        hidden = await client.post("/decode", content=body(changed))
    assert named.status_code == hidden.status_code == 400
    assert "key id '1999'" in named.json()["error"]
    assert named.headers["access-control-allow-origin"] == UI
    assert "was changed" in hidden.json()["error"]
    assert "4711" not in hidden.text


@pytest.mark.parametrize(("size", "status"), [(BODY_LIMIT, 400), (BODY_LIMIT + 1, 413), (3 * BODY_LIMIT, 413)])
async def test_a_body_above_the_limit_is_refused(size: int, status: int) -> None:
    async with serving() as client:
        answer = await client.post("/decode", content=b" " * size)
    assert answer.status_code == status


async def test_a_page_of_another_origin_is_refused_and_not_merely_left_without_headers() -> None:
    for origin in ("http://evil.example", "http://127.0.0.1:9999", "null"):
        async with serving() as client:
            asked = await client.options("/decode", headers={"Origin": origin, **PREFLIGHT})
            answer = await client.post("/decode", content=body(await sealed()), headers={"Origin": origin})
        assert asked.status_code == 400
        assert "access-control-allow-origin" not in asked.headers
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        assert "payloads" not in answer.json()


@pytest.mark.parametrize("asked", ["content-type,x-namespace", "authorization,content-type,x-namespace"])
async def test_the_preflight_of_the_web_ui_is_answered(asked: str) -> None:
    async with serving() as client:
        answer = await client.options(
            "/decode", headers={"Origin": UI, **PREFLIGHT, "Access-Control-Request-Headers": asked}
        )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == UI
    allowed = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert set(asked.split(",")) <= allowed


async def test_other_paths_and_methods_do_not_exist_and_health_does() -> None:
    async with serving() as client:
        assert (await client.get("/decode")).status_code == 405
        assert (await client.post("/decode/more")).status_code == 404
        assert (await client.get("/")).status_code == 404
        assert (await client.get("/health")).json() == {"status": "ok"}


async def test_with_a_bearer_token_nobody_decodes_without_it() -> None:
    async with serving(token="open sesame") as client:
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic open sesame"}):
            answer = await client.post("/decode", content=body(await sealed()), headers=given)
            assert answer.status_code == 401
            assert "payloads" not in answer.json()
        answer = await client.post(
            "/decode", content=body(await sealed()), headers={"Authorization": "Bearer open sesame"}
        )
        assert answer.status_code == 200


# -- as a process ------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "settings.toml"
    file.write_text(
        'web_ui = "http://127.0.0.1:8233/"\n[codec]\ncurrent = "k1"\nkeys.k1 = { env = "TEST_CODEC_KEY" }\n'
    )
    monkeypatch.setenv("TEST_CODEC_KEY", GOOD_KEY)
    monkeypatch.setenv("SIP_ROTATE_SETTINGS", str(file))
    return file


@pytest.fixture
def never_serves(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file of a server that must not start: if it does, the test fails instead of serving for ever."""

    def serve(*_: object, **__: object) -> None:
        raise AssertionError("the server started")

    monkeypatch.setattr(uvicorn.Server, "run", serve)
    return settings_file


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_it_prints_its_url_decodes_and_stops_cleanly(settings_file: Path, number: signal.Signals) -> None:
    ring = load_keyring(CodecSettings(current="k1", keys={"k1": SecretSource(env="TEST_CODEC_KEY")}))
    converter = data_converter(EncryptionCodec(ring))
    (payload,) = asyncio.run(converter.encode([{"by": "ada"}]))
    command = [sys.executable, "-W", "error", "-m", "codec.server", "--port", "0"]
    with subprocess.Popen(
        [*command, "--settings", str(settings_file), "--prefix", "codec"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SIP_ROTATE_SETTINGS": ""},
    ) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            assert url.startswith("http://127.0.0.1:")
            assert url.endswith("/codec")
            answer = httpx.post(f"{url}/decode", content=body(payload), headers={"Origin": UI}, trust_env=False)
            assert json.loads(payloads_of(answer)[0].data) == {"by": "ada"}
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--settings", "/nowhere/settings.toml"], "the settings file does not exist"),
        (["--host", "0.0.0.0"], "anyone who reaches this address could read every payload"),
        (["--host", "192.0.2.1", "--token-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"),
        (["--origin", "*"], "the origin is no http(s) URL"),
        (["--port", "70000"], "cannot listen"),
    ],
    ids=["no settings", "open to the world", "token not set", "any origin", "no such port"],
)
def test_wrong_options_are_named_and_end_with_2(
    never_serves: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_without_any_origin_it_does_not_start(never_serves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    never_serves.write_text(never_serves.read_text().replace('web_ui = "http://127.0.0.1:8233/"\n', ""))
    assert main([]) == 2
    assert "no origin is named" in capsys.readouterr().err


def test_without_its_key_it_does_not_start(
    never_serves: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_CODEC_KEY")
    assert main([]) == 2
    assert "codec.keys.k1: the secret is missing" in capsys.readouterr().err
