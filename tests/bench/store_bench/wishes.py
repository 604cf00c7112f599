"""Wishes: what it costs that workers whose time ends look whether a stage fits before a claim."""

from bench.store_bench import farm
from bench.store_bench.crew import Crew, Shift
from bench.store_bench.figures import interleaved, ratio

PROCESSES = (1, 2, 4)
PAIRS = {"one": "fits", "batch10": "fits10"}
"""Driver without, and driver with a look ahead."""

DATABASE = "wishes"
MOST = 4_000
"""Tasks a second that the queue must last for."""

WANTED = 0.6


def measure(bench: farm.Bench) -> None:
    """Rates of both, in turn, and the goal."""
    bench.report.section("claims of workers whose time ends: tasks a second")
    with Crew(max(PROCESSES)) as crew:
        for processes in PROCESSES:
            for plain, looking in PAIRS.items():
                _compare(bench, crew, processes, (plain, looking))


def _compare(bench: farm.Bench, crew: Crew, processes: int, drivers: tuple[str, str]) -> None:
    def rate(driver: str) -> float:
        _fill(bench)
        return crew.rate(processes, Shift(driver, bench.uri, DATABASE, bench.scale.seconds))

    works = {driver: lambda driver=driver: rate(driver) for driver in drivers}
    found = interleaved(bench.scale.repeats, works)
    for driver, rates in found.items():
        bench.report.figure(f"{processes} processes: {driver}", rates, "tasks/s")
    plain, looking = drivers
    name = f"{processes} processes: {looking} / {plain}"
    bench.report.goal(name, ratio(found[looking], found[plain]), WANTED)


def _fill(bench: farm.Bench) -> None:
    """See that enough is ready."""
    wanted = round(MOST * bench.scale.seconds)
    with farm.mongo(bench.uri, DATABASE) as database:
        fireworks = database["fireworks"]
        ready = fireworks.count_documents({"state": "READY"}, limit=wanted)
        first = fireworks.estimated_document_count()
    if ready < wanted:
        farm.add(bench.uri, DATABASE, wanted - ready, first)
