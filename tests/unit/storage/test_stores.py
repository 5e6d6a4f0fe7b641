"""Which store a URL opens, and what is said about a URL that opens none."""

from pathlib import Path

import pytest

from devices.errors import ConfigError, PartialWriteError
from storage.influx_http import Address
from storage.influx_v1 import InfluxV1Store
from storage.sqlite_store import SqliteStore
from storage.stores import NullStore, open_store
from tests.samples import NEW_YEAR, device, reading


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/telemetry.db", "var/telemetry.db"),
        ("sqlite:////srv/songhua/t.db", "/srv/songhua/t.db"),
        ("sqlite:////srv/a%20b/松花.db", "/srv/a b/松花.db"),
    ],
)
def test_sqlite(url: str, path: str) -> None:
    store = open_store(url)
    assert isinstance(store, SqliteStore)
    assert store.path == Path(path)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("influxdb+v1://influx:9086/city", Address("influx", 9086, "city")),
        ("influxdb+v1://influx/city", Address("influx", 8086, "city")),
        ("influxdb+v1://me:p%40ss%3Aw%2F@[::1]:9086/my%20city", Address("::1", 9086, "my city", "me", "p@ss:w/")),
    ],
)
def test_influxdb(url: str, address: Address) -> None:
    store = open_store(url)
    assert isinstance(store, InfluxV1Store)
    assert store.address == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "var/telemetry.db",
        "sqlite:telemetry.db",
        "sqlite://telemetry.db",
        "sqlite:///",
        "influxdb+v1://me:s3cret@host:8086",
        "influxdb+v1://me:s3cret@host:8086/",
        "influxdb+v1:///city",
        "influxdb+v1://me:s3cret@host:99999/city",
        "influxdb+v1://me:s3cret@host:port/city",
        "influxdb://me:s3cret@host/city",
        "postgresql://me:s3cret@host/city",
        "influxdb+v1://me:s3cret@[host/city",
        "null://",
    ],
)
def test_anything_else_is_refused_with_what_is_accepted(url: str) -> None:
    with pytest.raises(ConfigError, match=r"accepted are sqlite:///path, influxdb\+v1://.* or null:") as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)


async def test_the_null_store_does_the_work_of_encoding_and_keeps_nothing() -> None:
    store = open_store("null:")
    assert isinstance(store, NullStore)
    await store.start()
    bad = reading(device(), NEW_YEAR, flow_rate=float("nan"))
    with pytest.raises(PartialWriteError):
        await store.write([reading(device(), NEW_YEAR, flow_rate=1.0), bad])
    assert store.readings == 1
    assert store.size > 100
    assert await store.count() == 0
    await store.close()
