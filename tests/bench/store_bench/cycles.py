"""Cycles: claim and commit by 1, 2 and 4 processes, against plain pymongo and rapidfire."""

import io
from contextlib import redirect_stderr, redirect_stdout

from bench.store_bench import drivers, farm
from bench.store_bench.crew import Crew, Shift
from bench.store_bench.figures import ratio

PROCESSES = (1, 2, 4)
LABELS = {
    "raw": "raw pymongo (claim, insert record, complete)",
    "one": "qfarm one by one",
    "batch10": "qfarm in batches of 10",
    "batch50": "qfarm in batches of 50",
    "rapidfire": "FireWorks rapidfire, no-op",
}
OURS = ("one", "batch10", "batch50")
CEILING = {"one": 0.5, "batch10": 3.0, "batch50": 3.0}
"""Wanted part of the ceiling."""

RAPIDFIRE = 20.0
SLACK = 1.5
"""So much more stands in the queue than the crew is expected to do."""

Rates = dict[str, list[float]]


class Queues:
    """The queue of each driver, filled again before it gets short."""

    def __init__(self, bench: farm.Bench) -> None:
        self._bench = bench
        self.model = drivers.models(bench.uri, "cycles")
        self._added: dict[str, int] = {}

    def database(self, driver: str) -> str:
        """Ours all take from one queue."""
        return "cycles" if driver in OURS else f"cycles_{driver}"

    def need(self, driver: str, tasks: int) -> None:
        """See that so many tasks are there."""
        name = self.database(driver)
        with farm.mongo(self._bench.uri, name) as database:
            left = {"state": {"$in": ["READY", "WAITING"]}}
            lacking = tasks - database["fireworks"].count_documents(left)
        if lacking > 0:
            self._fill(driver, name, lacking)

    def _fill(self, driver: str, name: str, tasks: int) -> None:
        uri, first = self._bench.uri, self._added.get(name, 1)
        if driver == "raw":
            drivers.fill_raw_queue(uri, name, tasks, first, self.model)
        elif driver == "rapidfire":
            self._fill_rapidfire(uri, name, tasks, first == 1)
        else:
            farm.add(uri, name, -(-tasks // 2), first)
        self._added[name] = first + tasks

    def _fill_rapidfire(self, uri: str, name: str, tasks: int, fresh: bool) -> None:
        launchpad = drivers.launchpad(uri, name)
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            if fresh:
                launchpad.reset("", require_password=False)
            launchpad.bulk_add_wfs(drivers.workflows(uri, -(-tasks // 2)))
        launchpad.connection.close()


def measure(bench: farm.Bench) -> None:
    """Rates of all drivers, and the goals."""
    bench.report.section("claim + commit: tasks a second")
    queues = Queues(bench)
    sizes = ", ".join(
        f"{name} {drivers.weight(queues.model[name]):,} B" for name in ("firework", "record")
    )
    bench.report.say(f"Documents, the same for the raw ceiling: {sizes}. Majority writes.")
    with Crew(max(PROCESSES)) as crew:
        for processes in PROCESSES:
            _report(bench, processes, _rates(bench, crew, queues, processes))


def _rates(bench: farm.Bench, crew: Crew, queues: Queues, processes: int) -> Rates:
    rates: Rates = {name: [] for name in LABELS}
    # The first round, a short one, warms up and says how long the queues must be.
    for _ in range(bench.scale.repeats + 1):
        for name in LABELS:
            warm = not rates[name]
            seconds = min(0.5, bench.scale.seconds) if warm else bench.scale.seconds
            guess = 4000.0 if warm and name != "rapidfire" else max(rates[name], default=100.0)
            queues.need(name, round(guess * seconds * SLACK) + 100 * processes)
            shift = Shift(name, bench.uri, queues.database(name), seconds)
            rates[name].append(crew.rate(processes, shift))
    return {name: values[1:] for name, values in rates.items()}


def _report(bench: farm.Bench, processes: int, rates: Rates) -> None:
    who = "1 process" if processes == 1 else f"{processes} processes"
    for name, values in rates.items():
        bench.report.figure(f"{who}: {LABELS[name]}", values, "tasks/s")
    for name in OURS:
        part = ratio(rates[name], rates["raw"])
        title = f"{who}: {LABELS[name]} / raw"
        if processes == 1:
            bench.report.goal(title, part, CEILING[name])
        else:
            bench.report.figure(title, [part], "x", f"goal for 1 process: {CEILING[name]:g}")
        title = f"{who}: {LABELS[name]} / rapidfire"
        bench.report.goal(title, ratio(rates[name], rates["rapidfire"]), RAPIDFIRE)
    part = ratio(rates["raw"], rates["rapidfire"])
    bench.report.figure(f"{who}: raw / rapidfire", [part], "x", "what one by one could reach")
