"""Payload encryption: AES-256-GCM under a keyring, so that Temporal stores and shows ciphertext only.

It fails closed where it encrypts: without a key there is no codec. It decodes plaintext payloads by passing them
through, because a signal sent from a Web UI without codec server would otherwise wedge the workflow.

Temporal's metadata holds `encoding: binary/encrypted` and the key id; both are authenticated. The workflow id is not:
the codec server, which decrypts for the Web UI, does not know it.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import os
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

from domain.errors import RotatorError, SettingsInvalid
from settings import CodecSettings

ENCODING = b"binary/encrypted"
KEY_ID = "encryption-key-id"
KEY_BYTES = 32
NONCE_BYTES = 12
"""A random 96-bit nonce per payload (NIST SP 800-38D section 8.2.2): change the key before 2³² payloads."""


class PayloadUnreadable(RotatorError):
    """An encrypted payload cannot be decrypted: its key is not in the keyring, or it was changed."""


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


class EncryptionCodec(PayloadCodec):
    """Encrypts every payload under the current key, decrypts under any key of the ring."""

    def __init__(self, keyring: Keyring) -> None:
        """Raises `SettingsInvalid` when the keyring lacks its current key."""
        if keyring.current not in keyring.ciphers:
            raise SettingsInvalid("the current encryption key is not in the keyring", where=f"codec.{keyring.current}")
        self._keyring = keyring

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Each payload, metadata included, as one ciphertext."""
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """The payloads in plain; those that are not encrypted pass through. Raises `PayloadUnreadable`."""
        return [self._decrypt(payload) if is_encrypted(payload) else payload for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        key_id = self._keyring.current
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._keyring.ciphers[key_id].encrypt(nonce, payload.SerializeToString(), _bound(key_id))
        return Payload(metadata={"encoding": ENCODING, KEY_ID: key_id.encode()}, data=nonce + sealed)

    def _decrypt(self, payload: Payload) -> Payload:
        key_id = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        cipher = self._keyring.ciphers.get(key_id)
        if cipher is None:
            raise PayloadUnreadable(
                "a payload is encrypted under a key that is not in the keyring",
                where="codec.keys",
                seen=f"key id {key_id[:64]!r}; known: {', '.join(sorted(self._keyring.ciphers))}",
                action="add that key to [codec.keys]; keys stay there for as long as histories are kept",
            )
        nonce, sealed = payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:]
        try:
            return Payload.FromString(cipher.decrypt(nonce, sealed, _bound(key_id)))
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


def _bound(key_id: str) -> bytes:
    """What the tag authenticates besides the data, so that a payload cannot be relabelled."""
    return ENCODING + b"\0" + key_id.encode()


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
