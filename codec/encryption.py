"""Payload encryption: AES-256-GCM under a keyring, so that Temporal stores and shows ciphertext only.

It fails closed where it encrypts: without a key there is no codec. It decodes plaintext payloads by passing them
through, because a signal sent from a Web UI without codec server would otherwise wedge the workflow; they carry the
mark `WAS_PLAINTEXT` from then on, so that the workflow can tell.

Temporal's metadata holds `encoding: binary/encrypted`, the key id and the compression; all are authenticated. The
workflow id is not: the codec server, which decrypts for the Web UI, does not know it.

Payloads are compressed first when that makes them smaller: the plan travels with every activity, and a large one must
not fill a history. What is encrypted holds no secret beside text of a stranger's choice, which compression could give
away by its length: keys never enter a payload.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from domain.errors import RotatorError, SettingsInvalid
from settings import CodecSettings

ENCODING = b"binary/encrypted"
KEY_ID = "encryption-key-id"
KEY_BYTES = 32
COMPRESSION = "encryption-compression"
ZLIB = b"zlib"
LARGEST_BYTES = 16 * 1024 * 1024
"""Bytes of one payload in plain; none beyond it is compressed, and none that grows beyond it is read."""

WAS_PLAINTEXT = "sip-rotate-was-plaintext"
"""Metadata of a decoded payload that had come without encryption. It is never taken from a sender."""

NONCE_BYTES = 12
"""A random 96-bit nonce per payload (NIST SP 800-38D section 8.2.2): change the key before 2³² payloads."""


class PayloadUnreadable(RotatorError):
    """An encrypted payload cannot be decrypted: it was changed, or is not what its mark says."""


class KeyMissing(PayloadUnreadable):
    """An encrypted payload's key is not in the keyring."""


MissingKey = Callable[[str, str | None], None]
"""Called with the id of a key that the keyring lacks, and the id of the workflow whose payload needs it, if known."""


@dataclasses.dataclass(frozen=True)
class Keyring:
    """Ciphers by key id; `current` encrypts, all decrypt. Keys themselves are not kept readable."""

    current: str
    ciphers: Mapping[str, AESGCM] = dataclasses.field(repr=False)


def load_keyring(settings: CodecSettings) -> Keyring:
    """Every key of the settings, read from where its secret comes from.

    Raises `SettingsInvalid` that names the key id when a key is missing, is not base64 or has not 32 bytes.
    """
    return Keyring(
        current=settings.current,
        ciphers={
            key_id: AESGCM(_key(f"codec.keys.{key_id}", source.read(f"codec.keys.{key_id}").get_secret_value()))
            for key_id, source in settings.keys.items()
        },
    )


class EncryptionCodec(PayloadCodec, WithSerializationContext):
    """Encrypts every payload under the current key, decrypts under any key of the ring."""

    def __init__(self, keyring: Keyring, missing_key: MissingKey | None = None, workflow_id: str | None = None) -> None:
        """Raises `SettingsInvalid` when the keyring lacks its current key. `missing_key` hears of any other."""
        if keyring.current not in keyring.ciphers:
            raise SettingsInvalid("the current encryption key is not in the keyring", where=f"codec.{keyring.current}")
        self._keyring = keyring
        self._missing_key = missing_key
        self._workflow_id = workflow_id

    def with_context(self, context: SerializationContext) -> Self:
        """The same for the payloads of one workflow, so that a missing key can be told with the workflow's name."""
        if not isinstance(context, WorkflowSerializationContext | ActivitySerializationContext):
            return self
        return type(self)(self._keyring, self._missing_key, context.workflow_id)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Each payload, metadata included, as one ciphertext."""
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """The payloads in plain; those that are not encrypted pass through, marked.

        Raises `KeyMissing` and `PayloadUnreadable`.
        """
        return [self._decrypt(payload) if is_encrypted(payload) else marked_plaintext(payload) for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        key_id = self._keyring.current
        nonce = os.urandom(NONCE_BYTES)
        plain, compression = _packed(without_mark(payload).SerializeToString())
        sealed = self._keyring.ciphers[key_id].encrypt(nonce, plain, _bound(key_id, compression))
        metadata = {"encoding": ENCODING, KEY_ID: key_id.encode()}
        return Payload(metadata=metadata | ({COMPRESSION: compression} if compression else {}), data=nonce + sealed)

    def _decrypt(self, payload: Payload) -> Payload:
        key_id = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        cipher = self._keyring.ciphers.get(key_id)
        if cipher is None:
            if self._missing_key is not None:
                self._missing_key(key_id, self._workflow_id)
            raise KeyMissing(
                "a payload is encrypted under a key that is not in the keyring",
                where="codec.keys",
                seen=f"key id {key_id[:64]!r}; known: {', '.join(sorted(self._keyring.ciphers))}",
                action="add that key to [codec.keys]; keys stay there for as long as histories are kept",
            )
        nonce, sealed = payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:]
        compression = payload.metadata.get(COMPRESSION, b"")
        try:
            plain = cipher.decrypt(nonce, sealed, _bound(key_id, compression))
            return without_mark(Payload.FromString(_unpacked(plain, compression, key_id)))
        except (InvalidTag, ValueError, DecodeError):
            raise PayloadUnreadable(
                "a payload was changed after its encryption, or its key id names another key",
                where=f"codec.keys.{key_id}",
                seen=f"{len(payload.data)} bytes that do not authenticate",
                action="compare the key with the one of the worker that wrote it",
            ) from None


def is_encrypted(payload: Payload) -> bool:
    """True when the payload carries this codec's mark."""
    return payload.metadata.get("encoding") == ENCODING


def data_converter(codec: PayloadCodec) -> DataConverter:
    """Pydantic payloads through the codec, failure messages and stack traces included."""
    return dataclasses.replace(
        pydantic_data_converter,
        payload_codec=codec,
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def marked_plaintext(payload: Payload) -> Payload:
    """A copy that says that it came without encryption."""
    marked = Payload()
    marked.CopyFrom(payload)
    marked.metadata[WAS_PLAINTEXT] = b"true"
    return marked


def without_mark(payload: Payload) -> Payload:
    """The payload itself, or a copy without the mark of plaintext."""
    if WAS_PLAINTEXT not in payload.metadata:
        return payload
    clean = Payload()
    clean.CopyFrom(payload)
    del clean.metadata[WAS_PLAINTEXT]
    return clean


def _packed(plain: bytes) -> tuple[bytes, bytes]:
    """The shorter form, and its name: empty where compression does not help."""
    if len(plain) > LARGEST_BYTES:
        return plain, b""
    packed = zlib.compress(plain)
    return (packed, ZLIB) if len(packed) + len(COMPRESSION) + len(ZLIB) < len(plain) else (plain, b"")


def _unpacked(plain: bytes, compression: bytes, key_id: str) -> bytes:
    if not compression:
        return plain
    whole, grows = b"", False
    if compression == ZLIB:
        unpacker = zlib.decompressobj()
        try:
            whole = unpacker.decompress(plain, LARGEST_BYTES + 1)
        except zlib.error:
            whole = b""
        grows = len(whole) > LARGEST_BYTES
        if unpacker.eof and not unpacker.unused_data and not grows:
            return whole
    raise PayloadUnreadable(
        f"a payload grows beyond {LARGEST_BYTES} bytes" if grows else "a payload's compression cannot be undone",
        where=f"codec.keys.{key_id}",
        seen=f"{compression[:20]!r}, {len(plain)} bytes",
        action="" if grows else "read it with the version that wrote it, or a later one",
    )


def _bound(key_id: str, compression: bytes) -> bytes:
    """What the tag authenticates besides the data, so that a payload cannot be relabelled.

    Payloads without compression are bound as they always were, and so stay readable.
    """
    return ENCODING + b"\0" + key_id.encode() + (b"\0" + compression if compression else b"")


def _key(field: str, text: str) -> bytes:
    make_one = "make one with: openssl rand -base64 32"
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsInvalid("the encryption key is not base64", where=field, action=make_one) from None
    if len(key) != KEY_BYTES:
        raise SettingsInvalid(
            f"the encryption key must have {KEY_BYTES} bytes", where=field, seen=f"{len(key)} bytes", action=make_one
        )
    return key
