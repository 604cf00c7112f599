"""Raw: a farm's documents as MongoDB gives them, sorted for the checker; no code of the store."""

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo.database import Database

Document = dict[str, Any]


@dataclass
class Raw:
    """All documents that the checker looks at.

    Attributes
    ----------
    workflows : dict
        Workflow key -> documents.
    fireworks : dict
        Workflow key -> position of the stage -> documents.
    attempts, records : dict
        Stage key -> documents; attempts by number.
    launches : dict
        Launch id -> documents.
    fragments : dict
        Fragment id -> document.
    refusals : int
        Number of refused entries.
    """

    workflows: dict[str, list[Document]] = field(default_factory=lambda: defaultdict(list))
    fireworks: dict[str, dict[int, list[Document]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    attempts: dict[str, list[Document]] = field(default_factory=lambda: defaultdict(list))
    records: dict[str, list[Document]] = field(default_factory=lambda: defaultdict(list))
    launches: dict[int, list[Document]] = field(default_factory=lambda: defaultdict(list))
    fragments: dict[str, Document] = field(default_factory=dict)
    refusals: int = 0


def load(database: Database[Document]) -> Raw:
    """Read all."""
    raw = Raw()
    for document in database["workflows"].find():
        raw.workflows[str(document.get("metadata", {}).get("key"))].append(document)
    for document in database["fireworks"].find():
        entry = document.get("spec", {}).get("qfarm", {})
        raw.fireworks[str(entry.get("workflow"))][int(entry.get("position", -1))].append(document)
    for document in database["attempts"].find().sort("number"):
        raw.attempts[document["key"]].append(document)
    for document in database["records"].find():
        raw.records[document["key"]].append(document)
    for document in database["launches"].find():
        raw.launches[document["launch_id"]].append(document)
    raw.fragments = {document["_id"]: document for document in database["fragments"].find()}
    raw.refusals = database["refusals"].count_documents({})
    return raw


def rows(array: Any) -> list[list[float]] | None:
    """Rows of a stored array of coordinates; None when it is none."""
    try:
        count, width = array["shape"]
        numbers = struct.unpack(f"<{count * width}d", array["data"])
    except (TypeError, KeyError, ValueError, struct.error):
        return None
    return [list(numbers[i : i + width]) for i in range(0, len(numbers), width)]


@dataclass
class Runs:
    """What engine processes said of themselves.

    Attributes
    ----------
    begun : set
        Name of the scratch folder of each process that began: fragment, stage, number, token.
    ended : dict
        The same -> what it said at its end.
    twice : list
        Names under which two began.
    """

    begun: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)


def runs(log: Path) -> Runs:
    """Read the log of the engine processes."""
    found = Runs()
    for line in log.read_text().splitlines() if log.exists() else ():
        _, word, name, *said = line.split("\t")
        if word == "end":
            found.ended[name] = said[0]
        elif name in found.begun:
            found.twice.append(name)
        else:
            found.begun.add(name)
    return found
