"""The workload of the benchmarks: a simulated city's readings of all families, as MQTT messages in native JSON."""

import time
from collections.abc import Iterator

import msgspec

from simulators.city import City, build_city
from simulators.waveforms import build_waveforms

SEED = 7
DEVICES = 2_000


def messages(city: City, count: int, start: int | None = None) -> Iterator[tuple[str, bytes]]:
    """(topic, payload) of `count` readings: every device in turn, a second apart per round, ending about now."""
    waveforms = build_waveforms(city)
    sources = [(f"songhua/v1/{d.district}/{d.gateway}/{d.id}/up", waveforms[d.id].values) for d in city.devices]
    rounds = -(-count // len(sources))
    first = time.time_ns() // 1_000_000 - rounds * 1000 if start is None else start
    encode = msgspec.json.Encoder().encode
    for index in range(count):
        topic, values = sources[index % len(sources)]
        moment = first + index // len(sources) * 1000
        yield topic, encode({"t": moment, **values(moment), "boot_id": "b1", "seq": index // len(sources)})


def city(devices: int = DEVICES) -> City:
    """The city whose devices send."""
    return build_city(SEED, devices)
