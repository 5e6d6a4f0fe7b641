"""Prometheus metrics: the status document as text (`/metrics`), and this process's own requests.

`METRICS` describes every metric; the exposition is made from it, so a metric without a description cannot exist.
Counters come from the status document and survive restarts unless they say otherwise; the request metrics start with
the process.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

_HEALTH_STATES = ("ok", "degraded", "down")
_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class MetricDescription(NamedTuple):
    """One metric; `key` is its key in the status document, empty for those of this process."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    zh: str
    en: str
    labels: tuple[str, ...] = ()
    key: str = ""


_REQUESTS = MetricDescription(
    "songhua_http_requests_total", "counter", "HTTP 请求数", "HTTP requests", ("method", "route", "status")
)
_LATENCY = MetricDescription(
    "songhua_http_request_duration_seconds",
    "histogram",
    "HTTP 请求到开始响应的时间",
    "Time from a request to the start of its response",
    ("method", "route"),
)
_STREAMS = MetricDescription("songhua_streams_open", "gauge", "打开的实时流", "Open live streams")
_HEALTH = MetricDescription(
    "songhua_health_state", "gauge", "当前健康状态为 1", "1 for the present state of health", ("state",), "health"
)
_QUARANTINED = MetricDescription(
    "songhua_readings_quarantined_total",
    "counter",
    "隔离的读数（按原因）",
    "Readings (or undecodable messages) in quarantine, by reason",
    ("reason",),
    "quarantined_by_reason",
)


def _reading(key: str, zh: str, en: str) -> MetricDescription:
    return MetricDescription(f"songhua_readings_{key}_total", "counter", zh, en, key=key)


METRICS: tuple[MetricDescription, ...] = (
    _reading(
        "received", "收到的读数；无法解码的报文计为一条", "Readings received; an undecodable message counts as one"
    ),
    MetricDescription(
        "songhua_messages_journalled_total",
        "counter",
        "已写入消息日志的报文（一条报文可含多个读数）",
        "Messages durable in the journal; one may carry many readings",
        key="journalled",
    ),
    _reading("stored", "已写入时序库的读数", "Readings written to the telemetry store"),
    _reading(
        "late", "落后于本序列水位的读数（已入库）", "Readings behind their own series' watermark (stored as well)"
    ),
    _reading("duplicate", "重复的读数", "Readings that were stored before"),
    _QUARANTINED,
    _reading("control", "非遥测报文", "Messages that are no telemetry (gateway status, network events)"),
    _reading("lost", "已知丢失的读数（序号缺口、QoS 0）", "Readings known to be lost (sequence gaps, QoS 0)"),
    MetricDescription(
        "songhua_readings_conflicting_total",
        "counter",
        "同一设备同一时间数值不同、被后到读数覆盖的读数",
        "Readings overwritten by another one of the same device and time with other values",
        key="conflicts",
    ),
    MetricDescription(
        "songhua_readings_missing",
        "gauge",
        "序号缺失、仍可能补传的读数",
        "Readings whose numbers are missing and that may still come",
        key="missing",
    ),
    MetricDescription(
        "songhua_sessions_lost_total",
        "counter",
        "本次 ingest 启动以来，重连时 MQTT 服务器已丢失会话的次数",
        "Reconnects at which the broker had forgotten our session, since ingest started",
        key="sessions_lost",
    ),
    MetricDescription("songhua_journal_bytes", "gauge", "消息日志大小", "Size of the journal", key="journal_bytes"),
    MetricDescription(
        "songhua_notifications_dead",
        "gauge",
        "已放弃、仍保留在发件箱中的通知",
        "Notifications that were given up and are kept in the outbox",
        key="notifications_dead",
    ),
    MetricDescription(
        "songhua_readings_pending", "gauge", "尚无结果的读数", "Readings without an outcome yet", key="pending"
    ),
    MetricDescription(
        "songhua_store_lag_seconds", "gauge", "入库滞后", "How far the store is behind", key="store_lag_s"
    ),
    MetricDescription("songhua_rules_lag_seconds", "gauge", "规则滞后", "How far rules are behind", key="rules_lag_s"),
    MetricDescription("songhua_alarms_active", "gauge", "活动告警", "Active alarms", key="alarms_active"),
    MetricDescription(
        "songhua_alarms_unacknowledged", "gauge", "未确认告警", "Unacknowledged alarms", key="alarms_unacknowledged"
    ),
    MetricDescription("songhua_devices_registered", "gauge", "已注册设备", "Registered devices", key="devices"),
    MetricDescription("songhua_gateways_online", "gauge", "在线网关", "Gateways online", key="gateways_online"),
    _HEALTH,
    _REQUESTS,
    _LATENCY,
    _STREAMS,
)
MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class RequestMetrics:
    """Requests of this process, counted where they end; `route` is the template, so that the labels stay bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(_REQUESTS.name, _REQUESTS.en, _REQUESTS.labels, registry=self.registry)
        self._latency = Histogram(
            _LATENCY.name, _LATENCY.en, _LATENCY.labels, buckets=_LATENCY_BUCKETS, registry=self.registry
        )
        self.streams = Gauge(_STREAMS.name, _STREAMS.en, registry=self.registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; `seconds` until the response began (a stream then goes on for minutes)."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(method, route).observe(seconds)


class _StatusCollector(Collector):
    """A status document as metric families, in the order of `METRICS`."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        for metric in METRICS:
            if metric.key:
                yield self._family(metric)

    def _family(self, metric: MetricDescription) -> Metric:
        value = self._status[metric.key]
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = kind(metric.name, metric.en, labels=metric.labels)
        if metric is _HEALTH:
            for state in _HEALTH_STATES:
                family.add_metric([state], float(value["state"] == state))
        elif metric is _QUARANTINED:
            for reason, count in sorted(value.items()):
                family.add_metric([reason], count)
        elif value is not None:
            family.add_metric([], value)
        return family


def exposition(status: dict[str, Any], requests: RequestMetrics) -> bytes:
    """The whole text in Prometheus' format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_StatusCollector(status))
    return generate_latest(registry) + generate_latest(requests.registry)
