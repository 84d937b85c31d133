"""Frame of every page: the heading, and the environment and options of the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maeseg.comparison.wording import duration
from maeseg.runs.changes import accepted_changes
from maeseg.runs.reader import RunFolder


@dataclass(frozen=True)
class Frame:
    """Heading of a page, and how its run was made.

    Attributes:
        kicker: Kind of report, small, above the heading.
        heading: The heading.
        about: One line below it: data, start, wall time.
        facts: Names and values of run.json.
        options: Text of config.yaml.
        changes: Sentences on inputs that changed before the run was resumed.
    """

    kicker: str
    heading: str
    about: str
    facts: list[tuple[str, str]]
    options: str
    changes: list[str]


def make_frame(folder: RunFolder, kicker: str, heading: str) -> Frame:
    """Frame of the page of a run."""
    return Frame(
        kicker=kicker,
        heading=heading,
        about=_about(folder),
        facts=[("folder", folder.name), *_flat({**folder.info, "changes": None})],
        options=folder.options_text or "The run has no config.yaml.",
        changes=accepted_changes(folder.info),
    )


def _about(folder: RunFolder) -> str:
    parts = []
    if "data" in folder.options:
        parts.append(f"Data: {folder.options['data']}")
    if "started" in folder.info:
        parts.append(f"started {str(folder.info['started'])[:16].replace('T', ' ')}")
    if "seconds" in folder.info:
        parts.append(f"took {_wall_time(folder.info['seconds'])}")
    return " \N{MIDDLE DOT} ".join(parts)


def _flat(info: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in info.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            if key == "versions":
                pairs.append((name, ", ".join(f"{package} {version}" for package, version in value.items())))
            else:
                pairs += _flat(value, f"{name}: ")
        elif key == "seconds":
            pairs.append((prefix + "wall time", _wall_time(value)))
        elif value is not None:
            pairs.append((name, f"{value:,}" if isinstance(value, int) else str(value)))
    return pairs


def _wall_time(seconds: Any) -> str:
    return duration(seconds) if isinstance(seconds, int | float) else str(seconds)
