"""Tables of the storage room: registry, cursors, verdicts (quarantine), process status. Times are ms since the epoch,
UTC.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, String, Table, Text

from storage.metadata import metadata

zones = Table(
    "zones",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),  # district | dma | circuit | loop | catchment
    Column("district", String(6), nullable=False, index=True),
    Column("parent", String(64)),
    Column("name_zh", Text, nullable=False, default=""),
    Column("name_en", Text, nullable=False, default=""),
)

gateways = Table(
    "gateways",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("district", String(6), nullable=False, index=True),
    Column("name_zh", Text, nullable=False, default=""),
    Column("name_en", Text, nullable=False, default=""),
    Column("lon", Float),
    Column("lat", Float),
    Column("crs", String(16), nullable=False, default="EPSG:4326"),
)

# Written by rules (the only consumer of statuses), read by the api and the status document.
gateway_states = Table(
    "gateway_states",
    metadata,
    Column("gateway", String(64), primary_key=True),
    Column("state", String(8), nullable=False),  # online | offline
    Column("session", String(64), nullable=False),
    Column("at", BigInteger),
    Column("received_at", BigInteger, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("family", String(32), nullable=False),
    Column("profile", String(96), nullable=False),
    Column("district", String(6), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("gateway", String(64), nullable=False),
    Column("interval", BigInteger, nullable=False),
    Column("facts", JSON, nullable=False, default=dict),  # installation facts, merged over the profile's
    Column("name_zh", Text, nullable=False, default=""),
    Column("name_en", Text, nullable=False, default=""),
    Column("lon", Float),
    Column("lat", Float),
    Column("crs", String(16), nullable=False, default="EPSG:4326"),
    Column("provisioned", String(8), nullable=False, default="auto"),  # auto | import
    Column("created_at", BigInteger, nullable=False),
    Index("ix_devices_district_family", "district", "family"),
)

# One row per thing that has a revision others poll for (today: `registry`).
revisions = Table(
    "revisions",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

# A consumer's position in the journal and the tallies that belong to exactly that position.
cursors = Table(
    "cursors",
    metadata,
    Column("consumer", String(32), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("tallies", JSON, nullable=False, default=dict),
    Column("updated_at", BigInteger, nullable=False),
)

# Keyed by position, inserted idempotently: decoding a message again adds nothing.
verdicts = Table(
    "verdicts",
    metadata,
    Column("partition", Integer, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("element", Integer, primary_key=True),  # index within the message
    Column("outcome", String(16), primary_key=True),  # quarantined | conflict
    Column("reason", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("source", String(32), nullable=False),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("device", String(64)),
    Column("profile_revision", String(16), nullable=False, default=""),
    Column("received_at", BigInteger, nullable=False, index=True),
    Column("discarded", Boolean, nullable=False, default=False),
    Index("ix_verdicts_reason", "outcome", "reason"),
)

# What each process says of itself, renewed every second; a stale row is itself a finding.
process_status = Table(
    "process_status",
    metadata,
    Column("process", String(32), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("document", JSON, nullable=False),
)
