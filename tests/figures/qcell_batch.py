"""Run the batch of `support.batch` through `qcell` on doubles and print what became of it.

Run it as ``python tests/figures/qcell_batch.py``; it makes a farm in a temporary folder, with a
MongoDB of its own, and takes about a minute. FHI-aims and DFTB+ are test doubles: the tables show
what qfarm asks for and decides, the numbers mean nothing.
"""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from qfarm import config
from support import doubles
from support.batch import BATCH, Case, Ran, batch_frames, batch_rules, how


def main() -> None:
    """Run the batch and print both tables."""
    with TemporaryDirectory(prefix="qfarm-figures-") as name:
        ran = run(Path(name))
        console = Console(width=max(140, Console().width))
        console.print(inputs(ran))
        console.print(histories(ran))


def run(folder: Path) -> Ran:
    """The batch after its run in `folder`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("QFARM_")}
    ran = Ran(doubles.double_farm(folder, batch_rules(), ranks=2), kept)
    doubles.batch_file(folder / "batch.extxyz", batch_frames())
    ran.types("up")
    try:
        ran.types("submit", "batch.extxyz", "--protocol", "qcell")
        ran.types("run", "--plain", "--slots", "2", code=3)
        farm = config.load(folder)
        ran.look(config.mongo_uri(farm), farm.config.mongo.database)
    finally:
        ran.types("down")
    return ran


def inputs(ran: Ran) -> Table:
    """What every fragment's control.in said."""
    table = Table(title="What each fragment was computed with", title_justify="left")
    for heading in ("fragment", "class", "atoms", "species in control.in", "dispersion"):
        table.add_column(heading, justify="right" if heading == "atoms" else "left")
    for case in BATCH:
        fragment = ran.views[case.name].fragment
        texts = "\n".join(ran.kept(case, "single_point", "control.in"))
        tiers = " ".join(sorted(set(re.findall(r'Suggested "(\w+)" defaults', texts))))
        lines = sorted(set(re.findall(r"^many_body_dispersion.*$", texts, re.MULTILINE)))
        words = "; ".join(" ".join(line.split()) for line in lines)
        row = (fragment.fragment_class, str(fragment.n_atoms), tiers or "-", words or "-")
        table.add_row(case.name, *row)
    return table


def histories(ran: Ran) -> Table:
    """Every attempt and what came of it."""
    table = Table(title="What happened (kind@rung)", title_justify="left", show_lines=True)
    for heading in ("fragment", "goes wrong", "preopt", "single point", "in the end"):
        table.add_column(heading)
    for case in BATCH:
        preopt, point = (
            "\n".join(map(how, ran.attempts(case, stage))) for stage in ("preopt", "single_point")
        )
        table.add_row(
            case.name, case.goes_wrong or "nothing", preopt, point or "-", ended(ran, case)
        )
    return table


def ended(ran: Ran, case: Case) -> str:
    """Energy of the record with its deviations, or why there is none."""
    found = [r for r in ran.records if (r.tags[0], r.stage) == (case.name, "single_point")]
    if found:
        words = (f"{found[0].result.energy:.3f} eV", *found[0].deviations)
        return "\n".join(words)
    return "; ".join(row.reason for row in ran.views[case.name].rows if row.reason)


if __name__ == "__main__":
    main()
