"""Bodies that clients send, validated before a route sees them; unknown keys are refused.

A refusal is a 422 that names the part and what was expected.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from api.parameters import parse_moment
from api.schemas import Document
from rules.model import ActionKind


class LoginRequest(Document):
    """Exactly one of the two: a one-time login code, or a token."""

    code: str | None = Field(None, min_length=1, max_length=200)
    token: str | None = Field(None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _one_of_two(self) -> "LoginRequest":
        if (self.code is None) == (self.token is None):
            raise ValueError("expected exactly one of code and token")
        return self


def _until(given: object) -> object:
    return parse_moment(str(given) if isinstance(given, int) else given)


class ActionArguments(Document):
    """What the kind needs: comment a `note`; assign an `assignee`; shelve `until` and a `reason`; verdict a `verdict`.

    A `note` may go with every kind. `until` is ISO 8601 with an offset, or ms.
    """

    note: str | None = Field(None, max_length=2000)
    assignee: str | None = Field(None, min_length=1, max_length=64)
    until: Annotated[int, BeforeValidator(_until)] | None = Field(
        None, json_schema_extra={"type": "string"}, description="When shelving ends."
    )
    reason: str | None = Field(None, min_length=1, max_length=500)
    verdict: Literal["fixed", "false_alarm", "cannot_find"] | None = None


_NEEDED: dict[str, tuple[str, ...]] = {
    "comment": ("note",),
    "assign": ("assignee",),
    "shelve": ("until", "reason"),
    "verdict": ("verdict",),
}


class ActionRequest(Document):
    """A person's request about an alarm, with the version of it that the person saw."""

    kind: ActionKind
    seen_version: int = Field(ge=0, le=2**31 - 1)
    arguments: ActionArguments = ActionArguments()

    @model_validator(mode="after")
    def _complete(self) -> "ActionRequest":
        missing = [name for name in _NEEDED.get(self.kind, ()) if not getattr(self.arguments, name)]
        if missing:
            raise ValueError(f"expected arguments.{' and arguments.'.join(missing)} for {self.kind}")
        return self
