"""What the routes work with: one `Service` per application, made by `create_app`, found through the request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from api.authenticator import Authenticator
from api.clock import Clock
from api.feed import Feed
from api.live import LiveReadings
from api.metrics import RequestMetrics
from api.throttle import FailureThrottle
from devices.catalogue import Catalogue
from storage.telemetry import TelemetryStore


@dataclass(frozen=True, kw_only=True)
class Service:
    """Parts shared by all requests of one process; constructing them connects to nothing.

    `live` is None without a broker; `stream_lifetime` is in seconds; `trusted_origins` may send unsafe requests with
    a cookie besides our own.
    """

    engine: Engine
    store: TelemetryStore
    catalogue: Catalogue
    clock: Clock
    authenticator: Authenticator
    token_throttle: FailureThrottle
    login_throttle: FailureThrottle
    feed: Feed
    live: LiveReadings | None
    stream_lifetime: float
    request_metrics: RequestMetrics
    trusted_origins: Sequence[str]


def service_of(request: Request) -> Service:
    """The service of the application that serves this request."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]
