"""The balance of the service: every message that was journalled is in exactly one place, and here it is added up.

`received = stored + late + duplicate + quarantined + control + pending` must hold whenever it is asked for. The two
sides come from different counters: the ledger counts what was decoded, the store consumer what became of it, the
journal what is still ahead of both. If they disagree, health says so (`unbalanced`) instead of hiding it.
"""

from collections.abc import Mapping
from typing import Any

from ingest.ledger import Ledger
from ingest.store_consumer import StoreConsumer
from storage.journal import Journal


def counters(journal: Journal, ledger: Ledger, store: StoreConsumer) -> dict[str, Any]:
    """The counted part of the status document; one instant, since nothing here waits."""
    undecoded = journal.head - ledger.frontier
    quarantined = sum(ledger.reasons.values()) + store.rejected
    reasons = dict(sorted(ledger.reasons.items()))
    if store.rejected:
        reasons["store_rejected"] = reasons.get("store_rejected", 0) + store.rejected
    return {
        "received": ledger.readings + ledger.control + sum(ledger.reasons.values()) + undecoded,
        "journalled": journal.head,
        "stored": store.stored,
        "late": store.late,
        "duplicate": store.duplicate,
        "quarantined": quarantined,
        "quarantined_by_reason": reasons,
        "control": ledger.control,
        "pending": undecoded + ledger.readings - store.readings,
        "lost": ledger.gaps.lost,
    }


def difference(document: Mapping[str, Any]) -> int:
    """What is missing (or too much) in the balance; 0 unless a counter lies."""
    placed = sum(document[name] for name in ("stored", "late", "duplicate", "quarantined", "control", "pending"))
    return int(document["received"] - placed)
