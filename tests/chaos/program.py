"""The engine process of the storm. Standard library, so that a new supervisor costs little.

Its working folder is named ``FRAGMENT.STAGE.NUMBER.TOKEN``. Each run appends a line to the file of
``CHAOS_LOG`` when it begins and one when it has ended: how often an engine ran in vain is seen
there alone.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from chaos import fates
from chaos.fates import Positions, Spot


def main(folder: Path) -> None:
    """Do what fate has in store for the job of the folder."""
    job = json.loads((folder / "job.json").read_text())
    name, stage, number, token = folder.name.split(".", 3)
    spot = Spot(name, stage, int(number), int(job["scf"]["step"]))
    log("begin", folder.name)
    time.sleep(fates.seconds(spot) + float(os.environ.get("CHAOS_SECONDS", "0")))
    said = fates.outcome(spot)
    if said == "crashed":
        log("end", folder.name, said)
        os._exit(3)
    if said == "ok":
        save(folder / "result.json", result(spot, token, job["fragment"]))
    else:
        save(folder / "failure.json", failure(said))
    log("end", folder.name, said)


def result(spot: Spot, token: str, fragment: dict[str, Any]) -> dict[str, Any]:
    """A result that passes the verdict."""
    start: Positions = fragment["positions"]
    energy = fates.energy(spot, start)
    return {
        "numbers": fragment["numbers"],
        "positions": fates.moved(spot.name, spot.stage, start),
        "energy": energy,
        "energy_parts": {"storm": energy},
        "forces": [[0.001, 0.001, 0.001]] * len(start),
        "dipole": [0.0, 0.0, 0.4],
        "homo": -9.0,
        "lumo": 1.5,
        "geometry_converged": True if spot.stage == fates.STAGES[0] else None,
        "convergence": {"energy": 1e-6, "eigenvalues": 1e-4, "density": 1e-6, "forces": 1e-5},
        "engine_version": fates.signature(spot.number, token),
    }


def failure(kind: str) -> dict[str, Any]:
    """A failure that the engine tells itself."""
    cause = fates.NO_GAP if kind == "no-gap" else fates.NOT_CONVERGED
    return {"kind": kind, "cause": cause, "evidence": {}, "remedy": "Wait for better weather."}


def save(path: Path, document: dict[str, Any]) -> None:
    """Write a file, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document))
    part.rename(path)


def log(*words: str) -> None:
    """Append a line in one write, which no other process's can cut."""
    line = "\t".join((f"{time.monotonic():.3f}", *words)) + "\n"
    file = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, line.encode())
    os.close(file)
