"""Changed inputs that a resumed run accepted, in run.json under ``changes``."""

from collections.abc import Mapping, Sequence
from typing import Any


def with_change(before: object, changes: Sequence[str], time: str) -> list[Any]:
    """Entries of ``changes`` in run.json, one more if there are changes that the last entry does not have."""
    entries = list(before) if isinstance(before, list) else []
    known = bool(entries) and isinstance(entries[-1], dict) and entries[-1].get("changed") == list(changes)
    return entries if known or not changes else [*entries, {"at": time, "changed": list(changes)}]


def accepted_changes(info: Mapping[str, Any]) -> list[str]:
    """Sentences on the changes in a run.json, which may be untrusted."""
    entries = info.get("changes")
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("changed"), list):
            at = str(entry.get("at"))[:16].replace("T", " ")
            found.append(f"Resumed on {at} with changed inputs: {', '.join(map(str, entry['changed']))}.")
    return found
