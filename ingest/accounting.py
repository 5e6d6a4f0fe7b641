"""The balance of the service: every message that was journalled is in exactly one place, and here it is added up.

`received = stored + late + duplicate + quarantined + control + pending` must hold whenever it is asked for. The two
sides come from different counters: the ledger counts what was decoded, the store consumer what became of it, the
journal what is still ahead of both. If they disagree, health says so (`unbalanced`) instead of hiding it.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from devices.reasons import Reason
from ingest.ledger import Ledger
from ingest.store_consumer import StoreConsumer
from storage.journal import Journal


def counters(journal: Journal, ledger: Ledger, store: StoreConsumer) -> dict[str, Any]:
    """The counted part of the status document; one instant, since nothing here waits."""
    undecoded = journal.head - ledger.frontier
    reasons = Counter(ledger.reasons)
    reasons.update({Reason.store_rejected.value: store.rejected, Reason.damaged_record.value: store.damaged})
    return {
        "received": ledger.readings + ledger.control + sum(ledger.reasons.values()) + undecoded,
        "journalled": journal.head,
        "stored": store.stored,
        "late": store.late,
        "duplicate": store.duplicate,
        "quarantined": reasons.total(),
        "quarantined_by_reason": {reason: count for reason, count in sorted(reasons.items()) if count},
        "control": ledger.control,
        "pending": undecoded + ledger.readings - store.readings,
        "lost": ledger.gaps.lost,
    }


def difference(document: Mapping[str, Any]) -> int:
    """What is missing (or too much) in the balance; 0 unless a counter lies."""
    placed = sum(document[name] for name in ("stored", "late", "duplicate", "quarantined", "control", "pending"))
    return int(document["received"] - placed)
