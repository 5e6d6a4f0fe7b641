"""The registry: which devices, gateways and zones exist, as tables (the truth) and as an in-memory view (what the hot
path asks).

`RegistryView` is loaded whole at start and again when the `registry` revision moves; objects in it are immutable and
interned, so identity comparison is enough downstream. Writing goes through `register`, idempotent by id.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Table, select
from sqlalchemy.engine import Connection

from devices.model import Device, Gateway, Zone
from storage import tables
from storage.metadata import insert_into, transaction

_REVISION = "registry"


@dataclass(frozen=True)
class RegistryView:
    """One consistent reading of the registry. `children[gateway]` and `members[zone]` list device ids in registration
    order.
    """

    revision: int = 0
    devices: Mapping[str, Device] = field(default_factory=dict)
    gateways: Mapping[str, Gateway] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    children: Mapping[str, list[str]] = field(default_factory=dict)
    members: Mapping[str, list[str]] = field(default_factory=dict)


class Registry:
    """Reads and writes the registry tables; each method is one short blocking transaction, `TransientError` if none."""

    def __init__(self, engine: Engine, profile_facts: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self._engine = engine
        self._profile_facts = profile_facts or {}

    def revision(self) -> int:
        """The number that moves whenever anything was registered or changed."""
        with transaction(self._engine) as connection:
            return (
                connection.scalar(select(tables.revisions.c.revision).where(tables.revisions.c.name == _REVISION)) or 0
            )

    def load(self) -> RegistryView:
        """Everything registered, facts of the profiles merged under the device's own."""
        with transaction(self._engine) as connection:
            revision = (
                connection.scalar(select(tables.revisions.c.revision).where(tables.revisions.c.name == _REVISION)) or 0
            )
            device_rows = connection.execute(select(tables.devices).order_by(tables.devices.c.id)).mappings()
            view_devices = {row["id"]: self._device(row) for row in device_rows}
            gateway_columns = [tables.gateways.c[name] for name in Gateway.__struct_fields__]
            view_gateways = {row.id: Gateway(**row._mapping) for row in connection.execute(select(*gateway_columns))}
            zone_columns = [tables.zones.c[name] for name in Zone.__struct_fields__]
            view_zones = {row.id: Zone(**row._mapping) for row in connection.execute(select(*zone_columns))}
        children: dict[str, list[str]] = {}
        members: dict[str, list[str]] = {}
        for device in view_devices.values():
            children.setdefault(device.gateway, []).append(device.id)
            members.setdefault(device.zone, []).append(device.id)
        return RegistryView(revision, view_devices, view_gateways, view_zones, children, members)

    def register(
        self, *, zones: Iterable[Zone] = (), gateways: Iterable[Gateway] = (), devices: Iterable[Device] = ()
    ) -> int:
        """Insert or update by id, then move the revision once; returns how many rows there were."""
        zone_rows = [_columns(zone) for zone in zones]
        gateway_rows = [_columns(gateway) for gateway in gateways]
        device_rows = _device_rows(devices, "import")
        with transaction(self._engine) as connection:
            _upsert(connection, tables.zones, zone_rows)
            _upsert(connection, tables.gateways, gateway_rows)
            _upsert(connection, tables.devices, device_rows, keep=("created_at",))
            _move_revision(connection)
        return len(zone_rows) + len(gateway_rows) + len(device_rows)

    def adopt(self, devices: Iterable[Device]) -> None:
        """Insert devices that were made from a profile match; one that a person registered meanwhile stays as it is."""
        with transaction(self._engine) as connection:
            statement = insert_into(connection, tables.devices).on_conflict_do_nothing()
            connection.execute(statement, _device_rows(devices, "auto"))
            _move_revision(connection)

    def _device(self, row: Mapping[Any, Any]) -> Device:
        values = {name: row[name] for name in Device.__struct_fields__}
        values["facts"] = {**self._profile_facts.get(row["profile"], {}), **row["facts"]}
        return Device(**values)


def _columns(item: Zone | Gateway | Device) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__struct_fields__}


def _device_rows(devices: Iterable[Device], provisioned: str) -> list[dict[str, Any]]:
    now = time.time_ns() // 1_000_000
    return [_columns(device) | {"provisioned": provisioned, "created_at": now} for device in devices]


def _move_revision(connection: Connection) -> None:
    row = tables.revisions.c
    current = connection.scalar(select(row.revision).where(row.name == _REVISION)) or 0
    _upsert(connection, tables.revisions, [{"name": _REVISION, "revision": current + 1}])


def _upsert(connection: Connection, table: Table, rows: list[dict[str, Any]], keep: tuple[str, ...] = ()) -> None:
    """Insert or update by primary key; columns in `keep` stay as first written."""
    if not rows:
        return
    key = [column.name for column in table.primary_key]
    statement = insert_into(connection, table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in key and name not in keep}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)
