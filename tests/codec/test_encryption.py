"""Payload encryption: what leaves is ciphertext, what comes back is whole, and nothing wrong is decrypted."""

from __future__ import annotations

import base64
import os
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import WorkflowSerializationContext
from temporalio.exceptions import ApplicationError

from codec.encryption import (
    COMPRESSION,
    ENCODING,
    KEY_ID,
    LARGEST_BYTES,
    WAS_PLAINTEXT,
    EncryptionCodec,
    KeyMissing,
    Keyring,
    PayloadUnreadable,
    data_converter,
    is_encrypted,
    load_keyring,
    without_mark,
)
from domain.errors import SettingsInvalid
from domain.plan import Plan
from settings import CodecSettings, SecretSource
from tests.domain.plans import plan

SECRET = "call 4711 on trunk.example.com"
KEYS = {name: AESGCM(name.encode().ljust(32, b"\0")) for name in ("2025", "2026", "2027")}


def codec(current: str = "2026", *others: str) -> EncryptionCodec:
    return EncryptionCodec(Keyring(current=current, ciphers={name: KEYS[name] for name in (current, *others)}))


def plain(data: bytes = SECRET.encode(), **metadata: bytes) -> Payload:
    return Payload(metadata={"encoding": b"json/plain", **metadata}, data=data)


async def sealed(data: bytes = SECRET.encode()) -> Payload:
    (payload,) = await codec().encode([plain(data)])
    return payload


# -- round trips -------------------------------------------------------------------------------------------------------


async def test_what_is_encoded_shows_neither_data_nor_metadata() -> None:
    payload = (await codec().encode([plain(type=b"secret-type")]))[0]
    assert is_encrypted(payload)
    assert not is_encrypted(plain())
    assert dict(payload.metadata) == {"encoding": ENCODING, KEY_ID: b"2026"}
    wire = payload.SerializeToString()
    assert b"4711" not in wire
    assert b"secret-type" not in wire
    assert b"json/plain" not in wire


async def test_payloads_come_back_whole_and_in_their_order() -> None:
    payloads = [plain(), plain(b""), plain(b"\x00\xff" * 50_000, **{"messageType": b"x"}), Payload()]
    assert await codec().decode(await codec().encode(payloads)) == payloads


async def test_the_same_payload_never_looks_the_same_twice() -> None:
    first, second = await codec().encode([plain(), plain()])
    assert first.data != second.data
    assert first.data[:12] != second.data[:12]


async def test_plaintext_passes_through_so_that_a_signal_from_a_web_ui_does_not_wedge_a_workflow() -> None:
    mixed = [plain(), await sealed(), Payload(metadata={"encoding": b"binary/null"})]
    decoded = await codec().decode(mixed)
    assert [without_mark(payload) for payload in decoded] == [plain(), plain(), mixed[2]]
    assert [WAS_PLAINTEXT in payload.metadata for payload in decoded] == [True, False, True]


async def test_the_mark_of_plaintext_is_never_taken_from_a_sender() -> None:
    (payload,) = await codec().encode([plain(**{WAS_PLAINTEXT: b"false"})])
    assert await codec().decode([payload]) == [plain()]
    (forged,) = await codec().decode([plain(**{WAS_PLAINTEXT: b"false"})])
    assert forged.metadata[WAS_PLAINTEXT] == b"true"


class Approval(BaseModel):
    """A model as signals carry it."""

    gate: str
    by: str


@dataclass
class Plain:
    """A dataclass as samples use it."""

    text: str


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (plan(), Plan),
        (Approval(gate="prefer", by="ada"), Approval),
        (Plain("x"), Plain),
        ([1, "zwei"], list),
        (None, None),
    ],
    ids=["plan", "model", "dataclass", "list", "none"],
)
async def test_values_come_back_through_temporals_data_converter(value: Any, kind: type | None) -> None:
    converter = data_converter(codec())
    payloads = await converter.encode([value])
    assert all(is_encrypted(payload) for payload in payloads)
    assert await converter.decode(payloads, [kind] if kind else None) == [value]


async def test_failure_messages_stack_traces_and_causes_are_encrypted_and_come_back() -> None:
    converter = data_converter(codec())
    try:
        try:
            raise ValueError(f"inner {SECRET}")
        except ValueError as cause:
            raise ApplicationError(f"outer {SECRET}", {"detail": SECRET}, type="RolledBack") from cause
    except ApplicationError as error:
        failure = Failure()
        await converter.encode_failure(error, failure)
    wire = failure.SerializeToString()
    assert b"4711" not in wire
    assert b"test_encryption" not in wire
    assert failure.application_failure_info.type == "RolledBack"
    assert is_encrypted(failure.encoded_attributes)
    back = await converter.decode_failure(failure)
    assert isinstance(back, ApplicationError)
    assert back.type == "RolledBack"
    assert back.message == f"outer {SECRET}"
    assert back.details == ({"detail": SECRET},)
    assert isinstance(back.__cause__, ApplicationError)
    assert back.__cause__.message == f"inner {SECRET}"


# -- rotation of keys --------------------------------------------------------------------------------------------------


async def test_after_a_key_rotation_old_payloads_are_read_and_new_ones_use_the_new_key() -> None:
    old = await sealed()
    rotated = codec("2027", "2026")
    assert await rotated.decode([old]) == [plain()]
    (new,) = await rotated.encode([plain()])
    assert new.metadata[KEY_ID] == b"2027"
    assert await codec("2026", "2027").decode([new]) == [plain()]


async def test_a_key_that_left_the_keyring_is_named() -> None:
    with pytest.raises(PayloadUnreadable, match="key id '2026'; known: 2027") as refused:
        await codec("2027").decode([await sealed()])
    assert "4711" not in str(refused.value)


@pytest.mark.parametrize("key_id", [None, b"", b"\xff\xfe", b"9" * 100_000], ids=["none", "empty", "no text", "long"])
async def test_a_key_id_that_makes_no_sense_is_an_error_of_moderate_length(key_id: bytes | None) -> None:
    metadata = {"encoding": ENCODING} | ({KEY_ID: key_id} if key_id is not None else {})
    with pytest.raises(PayloadUnreadable, match="not in the keyring") as refused:
        await codec().decode([Payload(metadata=metadata, data=(await sealed()).data)])
    assert len(str(refused.value)) < 500


async def test_whoever_must_know_of_a_missing_key_is_told_its_id_and_the_workflow() -> None:
    told: list[tuple[str, str | None]] = []
    missing = EncryptionCodec(
        Keyring(current="2027", ciphers={"2027": KEYS["2027"]}), lambda key, workflow: told.append((key, workflow))
    )
    converter = data_converter(missing)
    of_one = converter.with_context(WorkflowSerializationContext(namespace="default", workflow_id="rotation-x"))
    with pytest.raises(KeyMissing):
        await of_one.decode([await sealed()])
    with pytest.raises(KeyMissing):
        await converter.decode([await sealed()])
    assert told == [("2026", "rotation-x"), ("2026", None)]


# -- compression -------------------------------------------------------------------------------------------------------


async def test_a_payload_is_compressed_when_that_makes_it_smaller_and_not_otherwise() -> None:
    long = plain(b'{"peer": "203.0.113.7"}' * 10_000)
    noise = plain(os.urandom(5000))
    packed, raw, short = await codec().encode([long, noise, plain(b"7")])
    assert packed.metadata[COMPRESSION] == b"zlib"
    assert len(packed.data) < len(long.data) / 50
    assert COMPRESSION not in raw.metadata
    assert COMPRESSION not in short.metadata
    assert await codec().decode([packed, raw, short]) == [long, noise, plain(b"7")]


async def test_payloads_of_the_version_before_compression_stay_readable() -> None:
    nonce, text = os.urandom(12), plain(b"x" * 5000)
    data = nonce + KEYS["2026"].encrypt(nonce, text.SerializeToString(), ENCODING + b"\0" + b"2026")
    assert await codec().decode([Payload(metadata={"encoding": ENCODING, KEY_ID: b"2026"}, data=data)]) == [text]


async def test_the_mark_of_compression_is_authenticated() -> None:
    (packed,) = await codec().encode([plain(b"x" * 5000)])
    for mark in (None, b"", b"zstd"):
        changed = Payload(metadata=packed.metadata, data=packed.data)
        del changed.metadata[COMPRESSION]
        if mark is not None:
            changed.metadata[COMPRESSION] = mark
        with pytest.raises(PayloadUnreadable, match="was changed after its encryption"):
            await codec().decode([changed])
    raw = await sealed()
    raw.metadata[COMPRESSION] = b"zlib"
    with pytest.raises(PayloadUnreadable, match="was changed after its encryption"):
        await codec().decode([raw])


def compressed(data: bytes, mark: bytes = b"zlib") -> Payload:
    """What somebody who has the key could have written."""
    nonce = os.urandom(12)
    sealed = KEYS["2026"].encrypt(nonce, data, ENCODING + b"\0" + b"2026" + b"\0" + mark)
    return Payload(metadata={"encoding": ENCODING, KEY_ID: b"2026", COMPRESSION: mark}, data=nonce + sealed)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (compressed(zlib.compress(bytes(LARGEST_BYTES + 1))), f"grows beyond {LARGEST_BYTES} bytes"),
        (compressed(zlib.compress(bytes(3 * LARGEST_BYTES))), f"grows beyond {LARGEST_BYTES} bytes"),
        (compressed(b"no zlib"), "cannot be undone"),
        (compressed(zlib.compress(b"x" * 100)[:-3]), "cannot be undone"),
        (compressed(zlib.compress(b"x" * 100) + b"more"), "cannot be undone"),
        (compressed(b"x", b"zstd"), "read it with the version that wrote it"),
    ],
    ids=["one byte too many", "bomb", "no zlib", "cut", "trailing bytes", "a compression of the future"],
)
async def test_a_payload_that_grows_without_limit_or_is_not_what_it_says_is_refused(
    payload: Payload, words: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PayloadUnreadable, match=words):
            await codec().decode([payload])
        assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST_BYTES
    finally:
        tracemalloc.stop()


async def test_the_largest_payload_comes_back_whole() -> None:
    largest = Payload(data=bytes(LARGEST_BYTES - 20))
    (packed,) = await codec().encode([largest])
    assert len(packed.data) < 100_000
    assert await codec().decode([packed]) == [largest]


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 40))
async def test_whatever_is_sent_comes_back(data: bytes, times: int) -> None:
    payload = plain(data * times)
    assert await codec().decode(await codec().encode([payload])) == [payload]


# -- tampering ---------------------------------------------------------------------------------------------------------


def flipped(payload: Payload, position: int) -> Payload:
    data = bytearray(payload.data)
    data[position] ^= 1
    return Payload(metadata=payload.metadata, data=bytes(data))


TAMPERS: dict[str, Callable[[Payload], Payload]] = {
    "first bit of the nonce": lambda payload: flipped(payload, 0),
    "a bit of the text": lambda payload: flipped(payload, 20),
    "last bit of the tag": lambda payload: flipped(payload, -1),
    "cut": lambda payload: Payload(metadata=payload.metadata, data=payload.data[:-1]),
    "longer": lambda payload: Payload(metadata=payload.metadata, data=payload.data + b"\0"),
    "nonce alone": lambda payload: Payload(metadata=payload.metadata, data=payload.data[:12]),
    "empty": lambda payload: Payload(metadata=payload.metadata),
    "half a nonce": lambda payload: Payload(metadata=payload.metadata, data=payload.data[:5]),
}


@pytest.mark.parametrize("tamper", TAMPERS.values(), ids=TAMPERS.keys())
async def test_a_changed_payload_is_refused_without_a_word_of_its_content(tamper: Callable[[Payload], Payload]) -> None:
    with pytest.raises(PayloadUnreadable, match="was changed after its encryption") as refused:
        await codec().decode([tamper(await sealed())])
    assert "4711" not in str(refused.value)
    assert refused.value.__suppress_context__


async def test_a_payload_relabelled_to_another_key_is_refused_even_when_both_ids_name_the_same_bytes() -> None:
    """The key id is authenticated: an attacker cannot move a payload between keys."""
    twins = EncryptionCodec(Keyring(current="2026", ciphers={"2026": KEYS["2026"], "twin": KEYS["2026"]}))
    (payload,) = await twins.encode([plain()])
    payload.metadata[KEY_ID] = b"twin"
    with pytest.raises(PayloadUnreadable):
        await twins.decode([payload])


async def test_bytes_that_authenticate_but_are_no_payload_are_refused() -> None:
    nonce = os.urandom(12)
    data = nonce + KEYS["2026"].encrypt(nonce, b"\xff\xff\xff", ENCODING + b"\0" + b"2026")
    with pytest.raises(PayloadUnreadable):
        await codec().decode([Payload(metadata={"encoding": ENCODING, KEY_ID: b"2026"}, data=data)])


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=200))
async def test_no_bytes_but_our_own_are_ever_decrypted(data: bytes) -> None:
    with pytest.raises(PayloadUnreadable):
        await codec().decode([Payload(metadata={"encoding": ENCODING, KEY_ID: b"2026"}, data=data)])


# -- the keyring fails closed ------------------------------------------------------------------------------------------

GOOD_KEY = base64.b64encode(bytes(range(32))).decode()


def settings(tmp_path: Path, **keys: str) -> CodecSettings:
    sources = {}
    for name, text in keys.items():
        (tmp_path / name).write_text(text)
        sources[name] = SecretSource(file=tmp_path / name)
    return CodecSettings(current=next(iter(keys)), keys=sources)


async def test_a_keyring_is_read_from_the_settings_and_never_shows_a_key(tmp_path: Path) -> None:
    ring = load_keyring(settings(tmp_path, k2=GOOD_KEY + "\n", k1=base64.b64encode(b"1" * 32).decode()))
    assert ring.current == "k2"
    assert set(ring.ciphers) == {"k1", "k2"}
    assert GOOD_KEY not in repr(ring)
    assert "AESGCM" not in repr(ring)
    (payload,) = await EncryptionCodec(ring).encode([plain()])
    assert await EncryptionCodec(ring).decode([payload]) == [plain()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the secret file is empty"),
        ("not base64!", "is not base64"),
        (GOOD_KEY[:-1], "is not base64"),
        (base64.b64encode(bytes(16)).decode(), "must have 32 bytes; seen: 16 bytes"),
        (base64.b64encode(bytes(33)).decode(), "must have 32 bytes; seen: 33 bytes"),
        (bytes(range(32)).hex(), "must have 32 bytes; seen: 48 bytes"),
        ("schlüssel", "is not base64"),
    ],
    ids=["empty", "no base64", "cut", "AES-128", "too long", "hex", "not ASCII"],
)
def test_a_key_that_cannot_be_used_is_refused_by_name_and_not_shown(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"codec\.keys\.k2") as refused:
        load_keyring(settings(tmp_path, k1=GOOD_KEY, k2=text))
    assert words in str(refused.value)
    assert not text or text not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_key_whose_source_is_missing_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODEC_KEY", raising=False)
    missing = CodecSettings(current="k1", keys={"k1": SecretSource(env="CODEC_KEY")})
    with pytest.raises(SettingsInvalid, match=r"codec\.keys\.k1: the secret is missing.*export CODEC_KEY"):
        load_keyring(missing)


def test_a_keyring_without_its_current_key_makes_no_codec() -> None:
    with pytest.raises(SettingsInvalid, match="not in the keyring"):
        EncryptionCodec(Keyring(current="2028", ciphers=KEYS))
