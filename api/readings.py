"""What devices reported: columns for a chart, and the newest reading of each device."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from api import schemas
from api.devices import visible_device
from api.parameters import Bucket, CommaSeparated, District, Identifier, Moment, PathIdentifier
from api.policy import Viewer
from api.problems import invalid
from api.replies import json_response
from api.service import ServiceDep
from devices.catalogue import Catalogue
from devices.model import Milliseconds
from storage.telemetry import Aggregate, Point

router = APIRouter(prefix="/v1", tags=["readings"])
_DAY: Milliseconds = 86_400_000
_MOST_POINTS = 100_000
_MOST_BUCKETS = 20_000


@router.get("/devices/{device}/readings", response_model=schemas.Readings)
async def list_readings(
    device: PathIdentifier,
    principal: Viewer,
    service: ServiceDep,
    properties: Annotated[
        list[str] | None, CommaSeparated, Query(description="Default: all of the family (with a bucket: all numbers).")
    ] = None,
    start: Annotated[Moment | None, Query(description="Inclusive; default: a day before `end`.")] = None,
    end: Annotated[Moment | None, Query(description="Exclusive; default: now.")] = None,
    bucket: Annotated[Bucket | None, Query(description="Absent: raw values. At most 20,000 buckets.")] = None,
    function: Annotated[Aggregate, Query(description="How a bucket is made of its values.")] = "mean",
) -> Response:
    """Values in [start, end), ascending. Buckets start at multiples of `bucket` since the epoch."""
    row = await run_in_threadpool(visible_device, service.engine, principal, device)
    names = _properties(service.catalogue, row.family, properties, numbers_only=bucket is not None)
    until = service.clock() if end is None else end
    since = max(0, until - _DAY) if start is None else start
    if since >= until:
        raise invalid("start", "expected a moment before end")
    if bucket is None:
        series = await service.store.range(row.family, device, names, since, until, limit=_MOST_POINTS)
    elif (until - since) // bucket >= _MOST_BUCKETS:
        raise invalid("bucket", f"expected at most {_MOST_BUCKETS} buckets; take longer ones or a shorter range")
    else:
        series = await service.store.aggregate(row.family, [device], names, since, until, bucket, function)
    return json_response(
        {
            "times": series.times,
            "columns": series.columns,
            "units": {name: service.catalogue.properties[name].unit for name in names},
            "bucket": bucket,
            "truncated": bucket is None and len(series.times) >= _MOST_POINTS,
        }
    )


def _properties(catalogue: Catalogue, family: str, wanted: list[str] | None, *, numbers_only: bool) -> list[str]:
    """The properties asked for, each once; raises 422 for what this family does not report or a bucket cannot hold."""
    if family not in catalogue.families:
        return []
    known = [
        name
        for name in catalogue.families[family].properties
        if not (numbers_only and catalogue.properties[name].kind == "state")
    ]
    if not wanted:
        return known
    if any(name not in known for name in wanted):
        what = "numbers and booleans" if numbers_only else "properties"
        raise invalid("properties", f"expected {what} of {family}: {', '.join(known)}")
    return list(dict.fromkeys(wanted))


class _Item(msgspec.Struct, gc=False):
    device: str
    time: str
    values: dict[str, float | str]
    quality: str


@router.get("/latest", response_model=schemas.LatestList)
async def list_latest(
    principal: Viewer,
    service: ServiceDep,
    family: Identifier | None = None,
    district: District | None = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_POINTS, description="Most items of all.")] = 10_000,
) -> Response:
    """The newest reading of each device by its own time; of one family or all, one district or all that are visible."""
    if family is not None and family not in service.catalogue.families:
        raise invalid("family", f"expected one of {', '.join(service.catalogue.families)}")
    if district is not None:
        districts: list[str | None] = [district] if principal.sees(district) else []
    else:
        districts = [None] if principal.districts is None else [*sorted(principal.districts)]
    points: list[Point] = []
    for name in service.catalogue.families if family is None else (family,):
        for code in districts:
            if len(points) <= limit:
                points += await service.store.latest(name, district=code, limit=limit + 1 - len(points))
    # In a thread: 100,000 items take a while, and the streams of this process go on meanwhile.
    return await run_in_threadpool(_latest_document, points, limit)


def _latest_document(points: list[Point], limit: int) -> Response:
    return json_response({"items": _items(points[:limit]), "truncated": len(points) > limit})


def _items(points: list[Point]) -> list[_Item]:
    """Times as RFC 3339; the text of a second is made once, most devices report in the same few thousand."""
    seconds: dict[int, str] = {}
    items = []
    for point in points:
        second, fraction = divmod(point.time, 1000)
        text = seconds.get(second)
        if text is None:
            text = seconds[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        items.append(_Item(point.device, f"{text}.{fraction:03d}Z", point.values, point.quality))
    return items
