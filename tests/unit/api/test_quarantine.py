"""The quarantine over HTTP: what was not stored, and apart from it what was overwritten."""

import httpx
import pytest

from tests.api_city import City

PLACE = "/v1/quarantine/0/7/0"


@pytest.fixture(autouse=True)
def _conflict(city: City) -> None:
    city.quarantine(7, topic="", device="wm-230102-1", outcome="conflict", reason="invalid_value", source="store")


async def _listed(city: City, client: httpx.AsyncClient, query: str) -> set[tuple[int, str]]:
    answer = await client.get(f"/v1/quarantine{query}", headers=city.bearer("operator"))
    assert answer.status_code == 200
    return {(item["sequence"], item["outcome"]) for item in answer.json()["items"]}


async def test_conflicts_are_listed_when_asked_for_and_not_otherwise(city: City, client: httpx.AsyncClient) -> None:
    assert await _listed(city, client, "?outcome=conflict") == {(7, "conflict")}
    quarantined = await _listed(city, client, "")
    assert quarantined == await _listed(city, client, "?outcome=quarantined")
    assert {outcome for _, outcome in quarantined} == {"quarantined"}
    assert (await client.get("/v1/quarantine?outcome=other", headers=city.bearer("operator"))).status_code == 422


async def test_a_conflict_is_found_under_its_outcome(city: City, client: httpx.AsyncClient) -> None:
    headers = city.bearer("operator")
    assert (await client.get(PLACE, headers=headers)).status_code == 404
    found = await client.get(f"{PLACE}?outcome=conflict", headers=headers)
    assert (found.status_code, found.json()["device"]) == (200, "wm-230102-1")


async def test_a_conflict_is_seen_in_its_district_only(city: City, client: httpx.AsyncClient) -> None:
    for district, status in (("230102", 200), ("230103", 404)):
        answer = await client.get(f"{PLACE}?outcome=conflict", headers=city.bearer("operator", [district]))
        assert answer.status_code == status
