"""The quarantine as the command line reads it: what became no reading, or (outcome `conflict`) was overwritten.

A verdict's key is its place: partition, journal sequence, element within the message. Read only; blocking. A payload
is shown as text where it is UTF-8 and as hexadecimal where it is not.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, select

from devices.errors import ConfigError
from devices.model import Milliseconds
from storage.metadata import transaction
from storage.tables import verdicts
from storage.verdicts import Outcome


@dataclass(frozen=True)
class Verdict:
    """One quarantined message, or one element of it."""

    key: str
    reason: str
    detail: str
    source: str
    topic: str
    device: str | None
    received_at: Milliseconds
    payload: bytes

    def as_json(self) -> dict[str, Any]:
        """Plain values; the payload under `payload` as text, or under `payload_hex`."""
        fields = dict(vars(self))
        payload = fields.pop("payload")
        try:
            return fields | {"payload": payload.decode("utf-8")}
        except UnicodeDecodeError:
            return fields | {"payload_hex": payload.hex()}


def newest(
    engine: Engine, *, reason: str | None, device: str | None, limit: int, outcome: Outcome = "quarantined"
) -> list[Verdict]:
    """At most `limit` verdicts, newest first."""
    query = select(verdicts).where(verdicts.c.outcome == outcome)
    if reason is not None:
        query = query.where(verdicts.c.reason == reason)
    if device is not None:
        query = query.where(verdicts.c.device == device)
    order = (verdicts.c.received_at.desc(), verdicts.c.sequence.desc(), verdicts.c.element)
    return _fetch(engine, query.order_by(*order).limit(limit))


def find(engine: Engine, key: str, outcome: Outcome = "quarantined") -> Verdict | None:
    """The verdict under `key`; raises `ConfigError` where `key` is not one."""
    try:
        partition, sequence, element = (int(part) for part in key.split("/"))
    except ValueError:
        raise ConfigError(f"{key}: expected PARTITION/SEQUENCE/ELEMENT, such as 0/1042/0") from None
    place = (verdicts.c.partition == partition, verdicts.c.sequence == sequence, verdicts.c.element == element)
    found = _fetch(engine, select(verdicts).where(verdicts.c.outcome == outcome, *place))
    return found[0] if found else None


def _fetch(engine: Engine, query: Any) -> list[Verdict]:
    with transaction(engine) as connection:
        return [_verdict(row) for row in connection.execute(query)]


def _verdict(row: Row[Any]) -> Verdict:
    return Verdict(
        key=f"{row.partition}/{row.sequence}/{row.element}",
        reason=row.reason,
        detail=row.detail,
        source=row.source,
        topic=row.topic,
        device=row.device,
        received_at=row.received_at,
        payload=bytes(row.payload),
    )
