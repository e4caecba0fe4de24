"""How everyone connects to Temporal: the SDK's own environment configuration plus the payload encryption."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from temporalio.api.enums.v1 import IndexedValueType, TaskQueueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from codec.encryption import EncryptionCodec, MissingKey, data_converter, load_keyring
from domain.errors import Unreachable
from settings import Settings

TASK_QUEUE = "sip-tls-rotation"
"""The task queue of workflows and activities."""


async def connect(
    settings: Settings, *, runtime: Runtime | None = None, missing_key: MissingKey | None = None
) -> Client:
    """A client by `TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_PROFILE`, TLS and API key from the environment.

    `missing_key` hears of payloads whose key is not in the keyring. Raises `SettingsInvalid` without an encryption key
    and `Unreachable` when Temporal does not answer.
    """
    converter = data_converter(EncryptionCodec(load_keyring(settings.codec), missing_key))
    config = ClientConfig.load_client_connect_config()
    target = config.setdefault("target_host", "localhost:7233")
    try:
        if runtime is not None:
            return await Client.connect(**config, data_converter=converter, runtime=runtime)
        return await Client.connect(**config, data_converter=converter)
    except RuntimeError as error:
        raise Unreachable(
            "Temporal does not answer",
            where=target,
            seen=str(error)[:300],
            action="start it, or set TEMPORAL_ADDRESS (and TEMPORAL_NAMESPACE, TLS, API key)",
        ) from None


async def polled(client: Client) -> bool:
    """True when the server knows of a worker that polls the task queue for workflow tasks."""
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=TASK_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    return bool(answer.pollers)


async def register_search_attributes(client: Client, keys: Iterable[SearchAttributeKey[Any]]) -> None:
    """Registers the custom search attributes that the namespace does not have yet; several may do so at once."""
    operator, namespace = client.operator_service, client.namespace
    known = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
    missing = {
        key.name: cast("IndexedValueType.ValueType", int(key.indexed_value_type))
        for key in keys
        if key.name not in known.custom_attributes
    }
    if missing:
        try:
            await operator.add_search_attributes(
                AddSearchAttributesRequest(namespace=namespace, search_attributes=missing)
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.ALREADY_EXISTS:
                raise
