"""Tables of the rules room. Rules is the only writer of alarms and transitions; the api only inserts actions.

Times are ms since the epoch, UTC. Keys are deterministic, so that a replay after a crash inserts nothing twice.
"""

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, Text, UniqueConstraint

from storage.metadata import metadata

alarms = Table(
    "alarms",
    metadata,
    Column("id", String(32), primary_key=True),  # hash(rule, subject kind, subject id, episode start)
    Column("rule", String(64), nullable=False, index=True),
    Column("subject_kind", String(8), nullable=False),  # device | zone | gateway
    Column("subject_id", String(64), nullable=False),
    Column("family", String(32), nullable=False, default=""),
    Column("district", String(6), nullable=False),
    Column("zone", String(64), nullable=False, default=""),
    Column("gateway", String(64), nullable=False, default=""),
    Column("priority", String(8), nullable=False),  # critical | high | medium | low
    Column("state", String(8), nullable=False),  # NORM UNACK ACKED RTNUN SHLVD DSUPR OOSRV (ISA-18.2)
    Column("version", Integer, nullable=False),  # grows with every transition; actions name the one they saw
    Column("raised_at", BigInteger, nullable=False),  # event time at which on_delay was satisfied
    Column("returned_at", BigInteger),
    Column("acked_at", BigInteger),
    Column("acked_by", String(64)),
    Column("assignee", String(64)),
    Column("shelved_until", BigInteger),
    Column("shelve_reason", Text),
    Column("suppressed_by", String(32)),  # the alarm that hides this one (gateway down)
    Column("title_zh", Text, nullable=False),
    Column("title_en", Text, nullable=False),
    Column("evidence", JSON, nullable=False),  # {property, value, unit, setpoint, window, samples: [[ms, value], ...]}
    Column("explanation_zh", Text, nullable=False),
    Column("explanation_en", Text, nullable=False),
    Column("advice_zh", Text, nullable=False, default=""),
    Column("advice_en", Text, nullable=False, default=""),
    Column("lon", Float),
    Column("lat", Float),
    Column("crs", String(16)),
    Column("case_key", String(64)),  # key of the city's code book
    Column("case", JSON),
    Column("verdict", String(16)),  # field verdict: fixed | false_alarm | cannot_find
    Column("children", Integer, nullable=False, default=0),  # devices behind a gateway that is down
    Column("occurrences", Integer, nullable=False, default=1),  # re-raises before acknowledgement stay in the episode
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_alarms_state_district", "state", "district"),
    Index("ix_alarms_subject", "subject_kind", "subject_id"),
)

# Every change of an alarm, in the order it was committed; `seq` is what the live stream resumes from.
transitions = Table(
    "transitions",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("alarm", String(32), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("from_state", String(8), nullable=False),
    Column("to_state", String(8), nullable=False),
    Column("cause", String(16), nullable=False),  # raise | reraise | return | acknowledge | ...
    Column("at", BigInteger, nullable=False),  # event time
    Column("recorded_at", BigInteger, nullable=False),  # processing time
    Column("actor", String(64)),
    Column("note", Text),
    UniqueConstraint("alarm", "version"),
    sqlite_autoincrement=True,
)

# Requests of people: inserted by the api, answered by rules.
actions = Table(
    "actions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("alarm", String(32), nullable=False, index=True),
    Column("kind", String(16), nullable=False),  # acknowledge | comment | assign | shelve | unshelve | verdict
    Column("actor", String(64), nullable=False),
    Column("seen_version", Integer, nullable=False),
    Column("arguments", JSON, nullable=False, default=dict),  # {"note": ...} and what the kind needs
    Column("requested_at", BigInteger, nullable=False),
    Column("state", String(8), nullable=False, default="pending", index=True),  # pending | applied | refused
    Column("answer", Text),  # why it was refused
    Column("applied_at", BigInteger),
    Column("applied_sequence", BigInteger),  # where in the journal: a replay applies it there again
)

# What the engine did because the wall clock moved: a replay ticks at the same places.
engine_ticks = Table(
    "engine_ticks",
    metadata,
    Column("sequence", BigInteger, primary_key=True),
    Column("at", BigInteger, primary_key=True),
)

# Stretches in which we ourselves could not hear the devices, and where in the journal the engine was told: a replay
# tells it there again.
engine_outages = Table(
    "engine_outages",
    metadata,
    Column("sequence", BigInteger, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
)

# One row per alarm transition and target; the id is the idempotency key the target sees.
outbox = Table(
    "outbox",
    metadata,
    Column("id", String(96), primary_key=True),  # {alarm}:{version}:{target}
    Column("target", String(32), nullable=False),
    Column("alarm", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("state", String(8), nullable=False, default="pending"),  # pending | sent | dead
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger),
    Column("error", Text),
    Index("ix_outbox_due", "state", "target", "next_attempt_at"),
)
