"""From a topic to what it means: identity, device, the gateway that heard it, and the profile that decodes it.

Routes are cached per topic until the registry changes. Raises `RejectedError` for topics and identities that are
refused, `UnknownDevices` where the registry view has no such device: the pipeline refreshes the view and asks again
with `provision=True`, which makes a device from the one profile that fits the payload.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from devices import senml
from devices.errors import RejectedError
from devices.model import Device
from devices.profile import CompiledProfile, match_profile
from devices.reasons import Reason
from storage.journal import Message
from storage.registry import RegistryView

NATIVE = "native"
HISTORY = "history"
HISTORY_PREFIX = "songhua/v1/history/"
FILTERS = ("songhua/v1/+/+/+/up", "songhua/v1/history/+/+/+/up", "songhua/v1/+/+/status")

_DISTRICT = re.compile(r"[0-9]{6}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
_MAX_ROUTES = 2_000_000
_MAX_UNKNOWN = 100_000
_objects = msgspec.json.Decoder(dict[str, Any])
_anything = msgspec.json.Decoder(list[Any])


def source_of(topic: str) -> str:
    """The configured source a topic belongs to."""
    return HISTORY if topic.startswith(HISTORY_PREFIX) else NATIVE


class UnknownDevices(Exception):
    """The batch names devices that the registry view does not have."""


class Route(msgspec.Struct, gc=False):
    """What a telemetry topic means, with the profile's two compiled functions at hand."""

    device: Device
    gateway: str
    profile: CompiledProfile
    decode: Callable[[bytes], Any]
    convert: Callable[[Any], bool]
    history: bool


class Router:
    """See the module docstring. `provisioned` holds devices made from a profile match until the registry has them."""

    def __init__(self, profiles: Mapping[str, CompiledProfile]) -> None:
        self._profiles = profiles
        self._view = RegistryView()
        self.routes: dict[str, Route] = {}
        self.provisioned: dict[str, Device] = {}
        self._unknown: set[str] = set()  # names that this revision of the registry was asked for in vain

    def set_registry(self, view: RegistryView) -> None:
        """A new revision of the registry: every route is made anew."""
        self._view = view
        self.routes = {}
        self._unknown.clear()
        self.provisioned = {id: device for id, device in self.provisioned.items() if id not in view.devices}

    def find(self, message: Message, provision: bool) -> Route | None:
        """Find out what a topic means; None for what is not telemetry. Only telemetry routes are cached."""
        topic = message.topic
        levels = topic.removeprefix(HISTORY_PREFIX).removeprefix("songhua/v1/").split("/")
        match levels:
            case [district, gateway, "status"]:
                _check_identifiers(district, gateway, gateway)
                return None
            case [district, gateway, name, "up"]:
                _check_identifiers(district, gateway, name)
            case _:
                raise RejectedError(Reason.unknown_topic, f"no source has the topic {topic!r:.120}")
        device = self._view.devices.get(name) or self.provisioned.get(name)
        if device is None:
            if not provision and name not in self._unknown:
                raise UnknownDevices
            if len(self._unknown) < _MAX_UNKNOWN:
                self._unknown.add(name)
            device = self._provision(message.payload, district, gateway, name)
        if device.district != district:
            detail = f"device {name} belongs to district {device.district}, the topic says {district}"
            raise RejectedError(Reason.identity_mismatch, detail)
        profile = self._profiles.get(device.profile)
        if profile is None:
            raise RejectedError(Reason.unknown_device, f"device {name} has the unknown profile {device.profile!r}")
        route = Route(device, gateway, profile, profile.decode, profile.convert, message.source == HISTORY)
        if len(self.routes) >= _MAX_ROUTES:
            self.routes.clear()
        self.routes[topic] = route
        return route

    def _provision(self, payload: bytes, district: str, gateway: str, name: str) -> Device:
        """Make a device from the one profile that fits the payload's keys; a person may correct it in the registry."""
        profile = match_profile(_payload_keys(payload), self._profiles)
        if profile is None:
            raise RejectedError(Reason.unknown_device, f"device {name} is not registered and no single profile fits it")
        device = Device(
            id=name,
            family=profile.family,
            profile=profile.id,
            district=district,
            zone=district,
            gateway=gateway,
            interval=profile.interval,
            facts=profile.facts,
        )
        self.provisioned[name] = device
        return device


def _check_identifiers(district: str, *names: str) -> None:
    if not _DISTRICT.fullmatch(district):
        raise RejectedError(Reason.invalid_topic, f"district {district!r:.80}: expected six digits (GB/T 2260)")
    for name in names:
        if not _IDENTIFIER.fullmatch(name):
            expected = "letters, digits and . _ : @ -, at most 64"
            raise RejectedError(Reason.invalid_topic, f"identifier {name!r:.80}: expected {expected}")


def _payload_keys(payload: bytes) -> set[str]:
    """Keys of an object or of the first element of a list, names of a SenML pack; empty where it is neither."""
    try:
        if payload[:1] == b"{":
            return set(_objects.decode(payload))
        elements = _anything.decode(payload)
        if senml.is_pack(elements):
            return {name for _, record in senml.resolve(elements, 0) for name in record}
        return set(elements[0]) if elements and isinstance(elements[0], dict) else set()
    except (msgspec.MsgspecError, RejectedError, RecursionError):
        return set()
