"""The domain's nouns: what was measured, by which device, and where it stands.

Owns no state and imports nothing of ours. `Reading` is the unit of accounting of the whole service: the values that one
device reported at one phenomenon time (O&M, ISO 19156). Times are integers, milliseconds since the epoch, UTC.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

Milliseconds: TypeAlias = int
Crs: TypeAlias = Literal["EPSG:4326", "EPSG:4490", "GCJ-02"]


class Device(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A registered device. Identity is `id` (unique in the service); instances are interned by the registry.

    `facts` are numbers about the installation (rated power in W, Q3 in m3/h, pipe depth in m) which rules read as
    `facts.<name>`; the profile's constants are already merged in. `interval` is the nominal reporting interval in ms.
    """

    id: str
    family: str
    profile: str
    district: str
    zone: str
    gateway: str
    interval: Milliseconds
    facts: dict[str, float] = {}
    name_zh: str = ""
    name_en: str = ""
    lon: float | None = None
    lat: float | None = None
    crs: Crs = "EPSG:4326"


class Gateway(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A device's way to the broker: one MQTT client with a will on its status topic."""

    id: str
    district: str
    name_zh: str = ""
    name_en: str = ""
    lon: float | None = None
    lat: float | None = None
    crs: Crs = "EPSG:4326"


class Zone(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A DMA, a lighting circuit or a heating loop; zones nest through `parent`. A district is a zone of kind
    `district`.
    """

    id: str
    kind: str
    district: str
    parent: str | None = None
    name_zh: str = ""
    name_en: str = ""


class Values(msgspec.Struct, gc=False):
    """Base of the generated per-family structs: one attribute per canonical property, None where not reported.

    Numbers and booleans are floats (a boolean is 0.0 or 1.0), enumerations (`*_state`) are strings.
    Classes come from `devices.catalogue.Catalogue.values_class(family)`.
    """


def reported_fields(values: Values) -> tuple[str, ...]:
    """The canonical properties of the family, without what a profile's wire struct adds for its envelope."""
    family = next(cls for cls in type(values).__mro__ if cls.__base__ is Values)
    return family.__struct_fields__  # type: ignore[attr-defined, no-any-return]


def reported(values: Values) -> dict[str, float | str]:
    """What a reading reports: canonical property -> value, without the absent ones."""
    return {name: value for name in reported_fields(values) if (value := getattr(values, name)) is not None}


class Reading(msgspec.Struct, gc=False):
    """The values one device reported at one phenomenon time.

    `time` is phenomenon time; `received_at` is when the journal's batch was received (first delivery). `quality` is
    "ok" or comma-separated flags: `clock` (device time replaced by receive time), `range` (a value outside its physical
    range was dropped). `replayed` marks what must never alarm: retained messages, history sources and operator replays.
    `gateway` is the one that heard it (not always the registered one). `sequence` and `index` locate it: journal
    sequence of its message, index within the message.
    """

    device: Device
    time: Milliseconds
    values: Values
    received_at: Milliseconds
    gateway: str
    sequence: int = 0
    index: int = 0
    quality: str = "ok"
    replayed: bool = False


class GatewayStatus(msgspec.Struct, gc=False):
    """A message on `.../{gateway}/status`: connection state as published by the gateway or by its will.

    `at` is None for a will (the broker sends it as it was written at CONNECT). `session` is unique per CONNECT:
    a will of an earlier session must be ignored by whoever keeps the gateway's state.
    """

    gateway: str
    district: str
    state: Literal["online", "offline"]
    session: str
    at: Milliseconds | None
    received_at: Milliseconds
    sequence: int = 0
    retained: bool = False


class Rejection(msgspec.Struct, gc=False):
    """Why a message, or one element of it, did not become a Reading. `reason` is one of `devices.reasons.Reason`."""

    sequence: int
    index: int
    reason: str
    detail: str
    source: str
    topic: str
    payload: bytes
    received_at: Milliseconds
    device: str | None = None


class DecodedBatch(msgspec.Struct, gc=False):
    """Everything that journal sequences `first`..`last` (inclusive) turned into, in journal order.

    `clock` is the newest `received_at` of the range: the processing time at which consumers evaluate it, so that a
    replay after a restart sees the same clock as the first run. `control` counts messages that are neither telemetry
    nor refused (gateway status, events of network servers); statuses are among them. `messages` is `last - first + 1`
    minus holes left by damaged records.
    """

    first: int
    last: int
    clock: Milliseconds
    messages: int
    readings: list[Reading]
    statuses: list[GatewayStatus]
    rejections: list[Rejection]
    control: int = 0

    @staticmethod
    def join(batches: Sequence["DecodedBatch"]) -> "DecodedBatch":
        """Consecutive batches (at least one) as one; its clock is the newest of theirs."""
        if len(batches) == 1:
            return batches[0]
        return DecodedBatch(
            batches[0].first,
            batches[-1].last,
            max(batch.clock for batch in batches),
            sum(batch.messages for batch in batches),
            [reading for batch in batches for reading in batch.readings],
            [status for batch in batches for status in batch.statuses],
            [rejection for batch in batches for rejection in batch.rejections],
            sum(batch.control for batch in batches),
        )

    def split(self, sequence: int) -> tuple["DecodedBatch", "DecodedBatch"]:
        """What lies at or before `sequence`, and what lies behind it; both keep the clock of the whole."""
        parts = []
        for first, last in ((self.first, min(sequence, self.last)), (max(sequence + 1, self.first), self.last)):
            statuses = [s for s in self.statuses if first <= s.sequence <= last]
            parts.append(
                DecodedBatch(
                    first,
                    last,
                    self.clock,
                    max(0, last - first + 1),
                    [r for r in self.readings if first <= r.sequence <= last],
                    statuses,
                    [r for r in self.rejections if first <= r.sequence <= last],
                    len(statuses),
                )
            )
        return parts[0], parts[1]
