"""The layout of the engine's snapshots is named by their version: a service that starts on the data of an older one
replays the journal instead of misreading its state.
"""

import hashlib
import json
from typing import Any

import msgspec

from rules import snapshot, windows
from rules.language import STATEFUL


def without_words(part: Any) -> Any:
    """Docstrings are no layout."""
    if isinstance(part, dict):
        return {key: without_words(value) for key, value in part.items() if key != "description"}
    return part


def layout() -> str:
    """A hash over fields and types of the snapshot and over what the windows write."""
    fields = without_words(msgspec.json.schema(snapshot._Snapshot))
    written = {
        function: [type(part).__name__ for part in windows.make(function, 60_000).dump()] for function in STATEFUL
    }
    return hashlib.blake2b(json.dumps([fields, written], sort_keys=True).encode(), digest_size=8).hexdigest()


def test_a_changed_layout_has_a_new_version() -> None:
    changed = "the layout has changed: raise rules.snapshot.VERSION, then write the new pair here"
    assert (snapshot.VERSION, layout()) == (2, "c28354c5a7bc9525"), changed
