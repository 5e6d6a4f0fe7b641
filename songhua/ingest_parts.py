"""The parts of the ingest process: the one place that names the concrete classes of the message path.

Construction opens nothing but the embedded files' names; `songhua.ingest_process` starts and stops what is made here.
Raises `ConfigError` for an address or a rule pack that cannot be right.
"""

import time
from collections.abc import Awaitable, Callable

from devices.catalogue import load as load_catalogue
from devices.model import Milliseconds
from devices.profile import load_profiles
from ingest.connection import Subscription
from ingest.consumer import ConsumerTask
from ingest.decode import Decoder
from ingest.device_time import DeviceClock
from ingest.endpoint import Endpoint
from ingest.feed import Feed
from ingest.inbox import Inbox
from ingest.ledger import Ledger
from ingest.live import LivePublisher
from ingest.pipeline import Pipeline
from ingest.routing import FILTERS, Router, source_of
from ingest.session import Session
from ingest.store_consumer import StoreConsumer
from rules import pack
from rules.consumer import RulesConsumer
from rules.engine import Engine
from rules.notifiers import Notifier
from rules.notify_log import LogNotifier
from rules.notify_mqtt import MqttNotifier
from rules.notify_store import StoreNotifier
from rules.notify_webhook import WebhookNotifier
from rules.outbox import Outbox
from rules.repository import RulesRepository
from songhua import broker, logs
from songhua.settings import Settings
from storage.metadata import open_engine
from storage.registry import Registry, RegistryView
from storage.segments import SegmentJournal
from storage.snapshots import SnapshotStore
from storage.stores import open_store

CLIENT_ID = "songhua-ingest"
_HANGS_AFTER = 3_000  # ms without a byte from the broker, which is asked every second
_KEPT_BEHIND = 64 << 20  # bytes of journal kept for restarts although every consumer has passed them


class Parts:
    """Everything on and around the message path, in the order in which a message meets it."""

    def __init__(self, settings: Settings, refresh: Callable[[], Awaitable[None]]) -> None:
        var, url = settings.var, broker.url(settings)
        endpoint = Endpoint.parse(url)
        profiles, catalogue = load_profiles(), load_catalogue()
        self.engine = open_engine(settings.relational_url)
        self.registry = Registry(self.engine, {profile.id: profile.facts for profile in profiles.values()})

        subscriptions = [Subscription(name, retained_always=name.endswith("/status")) for name in FILTERS]
        self.inbox = Inbox()
        self.session = Session(endpoint, CLIENT_ID, subscriptions, source_of, self.inbox)
        quota = settings.journal_quota
        self.journal = SegmentJournal(var / "journal", quota_bytes=quota, keep_bytes=min(_KEPT_BEHIND, quota // 4))
        self.clock = DeviceClock()
        self.router = Router(profiles)
        decoder = Decoder(self.router, self.clock)
        self.ledger = Ledger(self.engine, self.clock)
        self.feed = Feed(self.journal, decoder.decode)
        self.live = LivePublisher(endpoint, f"{CLIENT_ID}-live")
        self.pipeline = Pipeline(
            self.inbox, self.journal, decoder, self.ledger, self.feed, refresh, on_batch=self.live.offer
        )

        self.telemetry = open_store(settings.store_url or f"sqlite:///{settings.telemetry_file}")
        self.store = StoreConsumer(self.telemetry, self.engine, var / "store", settings.lateness)
        self.store_task = ConsumerTask(self.feed, self.store)

        log = LogNotifier(logs.open_notifications(settings))
        targets: list[Notifier] = [log, MqttNotifier(url), StoreNotifier(self.telemetry)]
        if settings.webhook_url:
            secret, private = settings.webhook_secret.get_secret_value(), settings.webhook_allow_private
            targets.append(WebhookNotifier(settings.webhook_url, secret, allow_private=private))
        self.outbox = Outbox(self.engine, targets)
        rules = pack.load(pack.shipped(), catalogue)
        self.rules = RulesConsumer(
            Engine(rules, catalogue, RegistryView(), lateness=settings.lateness),
            RulesRepository(self.engine, targets),
            SnapshotStore(var / "rules"),
            self.registry,
            self.outbox,
            deaf_since=self.deaf_since,
        )
        self.rules_task = ConsumerTask(self.feed, self.rules)

    def deaf_since(self) -> Milliseconds | None:
        """Since when no reading can reach the rules: the broker is silent or away, or the journal takes nothing."""
        heard, refused = self.session.heard_at, self.pipeline.refused_since
        if time.time_ns() // 1_000_000 - heard <= _HANGS_AFTER:
            return refused
        return heard if refused is None else min(heard, refused)
