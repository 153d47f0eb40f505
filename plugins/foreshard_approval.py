"""A task that waits for a person to approve the plan, if the run requires it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from foreshard_airflow import PAGE, option


class PlanApproval(ApprovalOperator):
    """Waits only if the param ``require_approval`` is set. A refusal fails the run, so that no later task acts."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(
            subject="Foreshard: carry out the plan for {{ partition_key or params.hour or 'the last closed hour' }}?",
            body=f"The plan, its reasons and its effect on every partition: [Foreshard]({PAGE}).",
            response_timeout=timedelta(hours=1),
            ignore_downstream_trigger_rules=True,
            **{"execution_timeout": None, **arguments},
        )

    def execute(self, context: Context) -> Any:
        """Wait for an approval, or succeed at once if none is required."""
        if not option("require_approval", context):
            self.log.info("no approval is required")
            return None
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Succeed if the plan was approved. Fail without retries if it was refused or the response timed out."""
        if "error" in event:
            raise AirflowFailException(f"the plan was not approved: {event['error']}")
        if event["chosen_options"] != [self.APPROVE]:
            raise AirflowFailException("the plan was refused; nothing was moved")
        return super().execute_complete(context, event)
