"""The sandbox that workflows run in, without the time that the SDK spends for every payload of a message.

The SDK enters the sandbox three times for each payload to ask what it belongs to. A signal's payload belongs to its
workflow, which is known outside. With ten thousand signals a replay took as long as a workflow task may take, so that
it was begun again and again and the rotation stood still.
"""

from __future__ import annotations

from typing import Any

from temporalio.converter import SerializationContext, WorkflowSerializationContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner


class RotationRunner(SandboxedWorkflowRunner):
    """`SandboxedWorkflowRunner`; payloads that belong to no command are told so without entering the sandbox."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """One workflow in its sandbox."""
        instance = super().create_instance(det)
        inside = instance.get_serialization_context
        whole = WorkflowSerializationContext(namespace=det.info.namespace, workflow_id=det.info.workflow_id)

        def context(command_info: Any) -> SerializationContext | None:
            return whole if command_info is None else inside(command_info)

        instance.get_serialization_context = context  # type: ignore[method-assign]
        return instance
