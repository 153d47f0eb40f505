"""A task that waits for a person's word on the plan, where the run asks for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from foreshard_airflow import PAGE, option


class PlanApproval(ApprovalOperator):
    """Asks only where the param ``require_approval`` is on; a refusal fails the run, so that nothing downstream acts."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(
            subject="Foreshard: carry out the plan for {{ partition_key or params.hour or 'the last closed hour' }}?",
            body=f"The plan, its reasons and its effect on every partition: [Foreshard]({PAGE}).",
            response_timeout=timedelta(hours=1),
            ignore_downstream_trigger_rules=True,
            **{"execution_timeout": None, **arguments},
        )

    def execute(self, context: Context) -> Any:
        """Pass at once where no approval is asked for; otherwise wait for one."""
        if not option("require_approval", context):
            self.log.info("no approval is required")
            return None
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when approved; fail at once when refused or when nobody answered in time."""
        if "error" in event:
            raise AirflowFailException(f"the plan was not approved: {event['error']}")
        if event["chosen_options"] != [self.APPROVE]:
            raise AirflowFailException("the plan was refused; nothing was moved")
        return super().execute_complete(context, event)
