"""Devices, their newest readings, and columns for charts."""

from typing import Any

import httpx
import pytest

from devices.model import Device, Zone
from storage.registry import Registry
from tests.api_city import NOW, City


async def _get(city: City, client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path, headers=city.bearer())
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def _ids(page: dict[str, Any]) -> list[str]:
    return [item["id"] for item in page["items"]]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["lamp-230102-1", "lamp-230103-1", "wm-230102-1", "wm-230103-1"]),
        ("?district=230103", ["lamp-230103-1", "wm-230103-1"]),
        ("?family=water_meter", ["wm-230102-1", "wm-230103-1"]),
        ("?zone=dma-230102&family=streetlight", ["lamp-230102-1"]),
        ("?gateway=gw-230103", ["lamp-230103-1", "wm-230103-1"]),
        ("?q=LAMP", ["lamp-230102-1", "lamp-230103-1"]),
        ("?q=%E8%AE%BE%E5%A4%87230102", ["lamp-230102-1", "wm-230102-1"]),
        ("?q=%25", []),
        ("?zone=none", []),
    ],
)
async def test_filters_choose_devices(city: City, client: httpx.AsyncClient, query: str, ids: list[str]) -> None:
    page = await _get(city, client, f"/v1/devices{query}")
    assert _ids(page) == ids
    assert page["total"] == len(ids)


async def test_pages_meet_and_know_the_total(city: City, client: httpx.AsyncClient) -> None:
    first = await _get(city, client, "/v1/devices?limit=3")
    second = await _get(city, client, f"/v1/devices?limit=3&cursor={first['next_cursor']}")
    assert _ids(first) + _ids(second) == ["lamp-230102-1", "lamp-230103-1", "wm-230102-1", "wm-230103-1"]
    assert second["next_cursor"] is None
    assert first["total"] == second["total"] == 4


async def test_a_device_comes_with_its_newest_reading(city: City, client: httpx.AsyncClient) -> None:
    city.store.put("water_meter", "wm-230102-1", "230102", NOW - 5000, {"flow_rate": 9.9})  # older than what is there
    document = await _get(city, client, "/v1/devices/wm-230102-1")
    assert document["latest"] == {
        "time": "2025-12-31T23:59:58.500Z",
        "values": {"flow_rate": 0.3, "valve_state": "open"},
        "quality": "ok",
    }
    assert (document["interval"], document["facts"], document["name"]["zh"]) == (60_000, {"q3": 2.5}, "设备230102")
    listed = await _get(city, client, "/v1/devices?family=water_meter&district=230102")
    assert listed["items"] == [{key: value for key, value in document.items() if key != "latest_error"}]


async def test_a_device_says_what_its_zone_is_called(city: City, client: httpx.AsyncClient) -> None:
    assert (await _get(city, client, "/v1/devices/wm-230102-1"))["zone_name"]["zh"] == "dma-230102"
    named = Zone(id="dma-230102", kind="dma", district="230102", name_zh="经纬街计量分区", name_en="DMA, Jingwei")
    Registry(city.engine).register(zones=[named])
    assert (await _get(city, client, "/v1/devices/wm-230102-1"))["zone_name"]["zh"] == "经纬街计量分区"
    page = await _get(city, client, "/v1/devices?district=230102")
    assert {item["zone_name"]["en"] for item in page["items"]} == {"DMA, Jingwei"}


async def test_a_device_that_never_reported_has_no_latest(city: City, client: httpx.AsyncClient) -> None:
    silent = Device(
        id="wm-new", family="water_meter", profile="p", district="230102", zone="z", gateway="g", interval=1
    )
    Registry(city.engine).register(devices=[silent])
    document = await _get(city, client, "/v1/devices/wm-new")
    assert (document["latest"], document["latest_error"]) == (None, False)
    assert document["name"] == {"zh": "wm-new", "en": "wm-new"}


async def test_raw_values_come_as_columns_with_units(city: City, client: httpx.AsyncClient) -> None:
    city.store.put("water_meter", "wm-230102-1", "230102", NOW - 5000, {"flow_rate": 9.9})
    path = "/v1/devices/wm-230102-1/readings?properties=flow_rate,valve_state,flow_rate"
    assert await _get(city, client, path) == {
        "times": [NOW - 5000, NOW - 1500],
        "columns": {"flow_rate": [9.9, 0.3], "valve_state": [None, "open"]},
        "units": {"flow_rate": "m3/h", "valve_state": ""},
        "bucket": None,
        "truncated": False,
    }


@pytest.mark.parametrize(
    "times",
    [
        f"start={NOW - 2000}&end={NOW}",
        "start=2025-12-31T23:59:58Z&end=2026-01-01T00:00:00Z",
        "start=2026-01-01T07:59:58%2B08:00&end=2026-01-01T08:00:00%2B08:00",
        "start=2026-01-01T07:59:58+08:00&end=2026-01-01T08:00:00+08:00",  # the + unescaped, as people write it
    ],
)
async def test_moments_are_iso_8601_or_ms(city: City, client: httpx.AsyncClient, times: str) -> None:
    city.store.put("water_meter", "wm-230102-1", "230102", NOW - 5000, {"flow_rate": 9.9})
    document = await _get(city, client, f"/v1/devices/wm-230102-1/readings?properties=flow_rate&{times}")
    assert document["times"] == [NOW - 1500]


async def test_buckets_hold_numbers_only_and_may_be_written_as_durations(city: City, client: httpx.AsyncClient) -> None:
    document = await _get(city, client, "/v1/devices/wm-230102-1/readings?bucket=1h")
    assert document["bucket"] == 3_600_000
    assert "valve_state" not in document["columns"]
    assert "flow_rate" in document["columns"]
    same = await _get(city, client, "/v1/devices/wm-230102-1/readings?bucket=3600000")
    assert same == document


@pytest.mark.parametrize(
    ("query", "devices", "truncated"),
    [
        ("", ["wm-230102-1", "wm-230103-1", "lamp-230102-1", "lamp-230103-1"], False),
        ("?family=streetlight", ["lamp-230102-1", "lamp-230103-1"], False),
        ("?district=230103", ["wm-230103-1", "lamp-230103-1"], False),
        ("?limit=3", ["wm-230102-1", "wm-230103-1", "lamp-230102-1"], True),
        ("?limit=4", ["wm-230102-1", "wm-230103-1", "lamp-230102-1", "lamp-230103-1"], False),
        ("?district=999999", [], False),
    ],
)
async def test_latest_gives_one_reading_a_device(
    city: City, client: httpx.AsyncClient, query: str, devices: list[str], truncated: bool
) -> None:
    document = await _get(city, client, f"/v1/latest{query}")
    assert [item["device"] for item in document["items"]] == devices
    assert document["truncated"] is truncated


async def test_gateways_tell_their_state_and_what_is_behind_them(city: City, client: httpx.AsyncClient) -> None:
    (gateway, _) = (await _get(city, client, "/v1/gateways"))["items"]
    assert (gateway["state"], gateway["since"], gateway["devices"]) == ("online", "2026-01-01T00:00:00.000Z", 2)
