"""The audit trail: who did what, when, from where. Append only; written in the transaction of the deed it records."""

from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from api.tables import audit_trail
from devices.model import Milliseconds


class AuditedAction(StrEnum):
    """Everything that leaves a row."""

    token_create = "token.create"
    token_revoke = "token.revoke"
    code_create = "code.create"
    login = "login"
    logout = "logout"
    alarm_action = "alarm.action"


def record(
    connection: Connection,
    action: AuditedAction,
    *,
    at: Milliseconds,
    actor: str,
    address: str = "",
    subject: str = "",
    outcome: Literal["done", "refused"] = "done",
    detail: dict[str, Any] | None = None,
) -> None:
    """Add one row; it lasts if and only if the caller's transaction commits. `detail` must hold no secret."""
    connection.execute(
        insert(audit_trail).values(
            at=at,
            actor=actor,
            address=address[:64],
            action=str(action),
            subject=subject[:96],
            outcome=outcome,
            detail=detail or {},
        )
    )
