"""Three days of a launcher in virtual time: a picture of each scenario, and a table.

Run ``python tests/figures/scaling.py FOLDER``; it needs matplotlib (extra `plot`). Each picture has
the queue, the jobs, and the slots at work over time, for each partition of the scenario.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from random import Random

import matplotlib as mpl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib import pyplot

from qfarm.store.fleet import Gate
from qfarm_launchers.scaling import Limits
from support.virtual_cluster import Cluster, Stage, Weather, World

HOUR, DAY = 3600.0, 86400.0
SPAN = 3 * DAY
BLUE, ORANGE, GREEN, GREY = "#2166ac", "#e08214", "#1b7837", "#888888"


@dataclass(frozen=True)
class Scenario:
    """A world and its partitions by name, not yet run."""

    title: str
    world: World
    clusters: dict[str, Cluster]


def fragments(
    random: Random, number: int, mean: tuple[float, float], routes: tuple[str, str] = ("", "")
) -> Iterator[Stage]:
    """Pre-optimisations and single points with long-tailed costs, predicted to a factor of 2."""
    for _ in range(number):
        costs = [median * min(12.0, random.lognormvariate(0, 1)) for median in mean]
        made = [
            Stage(cost, cost * 2 ** random.uniform(-1, 1), route)
            for cost, route in zip(costs, routes, strict=True)
        ]
        yield replace(made[0], rest=(made[1],))


def queue_of(mean: float) -> Callable[[Random], float]:
    return lambda random: random.expovariate(1 / mean)


def burst() -> Scenario:
    world = World(1)
    limits, weather = Limits(8, 100, 20, DAY), Weather(queue_of(600), walltime=DAY)
    cluster = Cluster(world, limits, weather)
    world.arrive(HOUR, fragments(world.random, 40_000, (60.0, 1200.0)))
    return Scenario("a burst of 40,000 fragments", world, {"cpu": cluster})


def trickle() -> Scenario:
    world = World(2)
    limits = Limits(4, 50, 20, 12 * HOUR)
    cluster = Cluster(world, limits, Weather(queue_of(300), walltime=12 * HOUR))
    for index in range(int(SPAN / 120) - 60):
        world.arrive(120.0 * index, fragments(world.random, 1, (20.0, 200.0)))
    return Scenario("a trickle: a fragment every 2 min", world, {"cpu": cluster})


def refusing() -> Scenario:
    world = World(3)
    away = ((8 * HOUR, 14 * HOUR), (30 * HOUR, 30.5 * HOUR))
    weather = Weather(queue_of(600), most=40, away=away, walltime=8 * HOUR, preempted=20 * HOUR)
    cluster = Cluster(world, Limits(8, 100, 20, 8 * HOUR), weather)
    world.arrive(HOUR, fragments(world.random, 80_000, (50.0, 250.0)))
    title = "a scheduler that takes 40 jobs of 100, and is away for 6 h and for 30 min"
    return Scenario(title, world, {"cpu": cluster})


def broken() -> Scenario:
    world = World(4)
    weather = Weather(queue_of(60), broken=((0.0, 20 * HOUR),), walltime=DAY)
    cluster = Cluster(world, Limits(8, 100, 20, DAY), weather)
    world.arrive(HOUR, fragments(world.random, 20_000, (50.0, 250.0)))
    return Scenario("a broken prologue, mended after 20 h", world, {"cpu": cluster})


def spill_over() -> Scenario:
    """Single points go to GPUs; while that partition is closed, CPUs take them."""
    world = World(5)
    cpu = Limits(8, 40, 20, DAY), Weather(queue_of(300), walltime=DAY)
    gpu = Limits(2, 20, 10, DAY), Weather(queue_of(1200), nodes=16, walltime=DAY)
    gpus = Cluster(world, *gpu, takes=lambda: ("gpu",))
    closed = lambda: gpus.gate is not Gate.OPEN or gpus.closed  # noqa: E731
    cpus = Cluster(world, *cpu, takes=lambda: ("cpu", "gpu") if closed() else ("cpu",))
    world.at(20 * HOUR, lambda: setattr(gpus, "gate", Gate.DRAINING))
    world.at(30 * HOUR, lambda: setattr(gpus, "gate", Gate.OPEN))
    for day in range(3):
        work = fragments(world.random, 9000, (100.0, 60.0), ("cpu", "gpu"))
        world.arrive(HOUR + day * 18 * HOUR, work)
    title = "single points on GPUs, closed from hour 20 to 30: CPUs take them"
    return Scenario(title, world, {"cpu": cpus, "gpu": gpus})


def two_clusters() -> Scenario:
    world = World(6)
    near = Limits(8, 20, 20, inf), Weather(queue_of(60), nodes=12)
    far = Limits(32, 40, 5, 6 * HOUR), Weather(queue_of(2 * HOUR), walltime=6 * HOUR)
    clusters = {"near": Cluster(world, *near), "far": Cluster(world, *far)}
    for begin, number in ((1, 60), (6, 15_000), (30, 400), (40, 30_000)):
        world.arrive(begin * HOUR, fragments(world.random, number, (50.0, 250.0)))
    return Scenario("two clusters on one queue", world, clusters)


SCENARIOS = (burst, trickle, refusing, broken, spill_over, two_clusters)


def main(folder: Path) -> None:
    """Run all scenarios, draw them, print the table."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{'scenario':<14}{'part':<6}{'stages':>8}{'left':>6}{'submitted':>11}{'refused':>9}"
        f"{'cancelled':>11}{'in vain':>9}{'peak jobs':>11}{'of':>5}{'use':>7}{'drained h':>11}"
        f"{'at rest h':>11}"
    )
    for number, make in enumerate(SCENARIOS, 1):
        scenario = make()
        scenario.world.run(SPAN)
        draw(scenario, folder / f"{number}_{make.__name__}.png")
        for name, cluster in scenario.clusters.items():
            print(line(make.__name__, name, scenario.world, cluster))


def line(scenario: str, name: str, world: World, cluster: Cluster) -> str:
    """Figures of a partition."""
    taken = sum(taken for _, taken in cluster.tries)
    cancelled = sum(job.cancelled for job in cluster.past)
    in_vain = sum(not job.attempts and not job.cancelled for job in cluster.past)
    peak = max(look.running + look.pending for look in cluster.diary)
    use = cluster.useful / cluster.allocated if not cluster.jobs else float("nan")
    rest = max(job.ended for job in cluster.past) / HOUR if not cluster.jobs else float("nan")
    return (
        f"{scenario:<14}{name:<6}{world.finished:>8}{world.unfinished:>6}{taken:>11}"
        f"{len(cluster.tries) - taken:>9}{cancelled:>11}{in_vain:>9}{peak:>11}"
        f"{cluster.limits.max_jobs:>5}{use:>7.1%}{world.last_finished / HOUR:>11.1f}{rest:>11.1f}"
    )


def draw(scenario: Scenario, path: Path) -> None:
    """Queue, jobs and slots over time, a column for each partition."""
    columns = len(scenario.clusters)
    figure, axes = pyplot.subplots(
        3, columns, figsize=(9 * columns, 8), sharex=True, squeeze=False, layout="constrained"
    )
    for column, (name, cluster) in enumerate(scenario.clusters.items()):
        panels = [row[column] for row in axes]
        hours = [look.now / HOUR for look in cluster.diary]
        panels[0].set_title(f"partition {name}: {_limits(cluster)}", fontsize=10)
        draw_queue(panels[0], hours, cluster)
        draw_jobs(panels[1], hours, cluster)
        draw_slots(panels[2], hours, cluster)
        for panel in panels:
            panel.set_ylim(0, 1.25 * panel.get_ylim()[1])  # room for the legend
            panel.grid(alpha=0.3)
            panel.legend(loc="upper right", fontsize=8, ncols=5)
        panels[2].set_xlabel("hours")
        panels[2].set_xlim(0, SPAN / HOUR)
        panels[2].set_xticks(range(0, 73, 6))
    figure.suptitle(scenario.title)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _limits(cluster: Cluster) -> str:
    limits = cluster.limits
    life = "no walltime" if limits.life == inf else f"walltime {limits.life / HOUR:g} h"
    rate = f"{limits.submit_per_minute:g} submissions a minute"
    return f"{limits.slots} slots a job, at most {limits.max_jobs} jobs, {rate}, {life}"


def draw_queue(panel: pyplot.Axes, hours: list[float], cluster: Cluster) -> None:
    """Ready stages, as the launcher counts them."""
    panel.fill_between(hours, [look.ready for look in cluster.diary], color=GREY, label="ready")
    panel.set_ylabel("stages (counted up to 10,000)")


def draw_jobs(panel: pyplot.Axes, hours: list[float], cluster: Cluster) -> None:
    """Jobs, pending ones on top, and when the scheduler was asked in vain."""
    running = [look.running for look in cluster.diary]
    pending = [look.pending for look in cluster.diary]
    labels = ["running", "pending"]
    panel.stackplot(hours, running, pending, colors=[BLUE, ORANGE], labels=labels)
    most = cluster.limits.max_jobs
    if max(map(sum, zip(running, pending, strict=True))) > most / 4:
        panel.axhline(most, color="black", linestyle=":", label="max_jobs")
    refused = [time / HOUR for time, taken in cluster.tries if not taken]
    if refused:
        panel.plot(refused, [1.0] * len(refused), "|", color="red", markersize=9, label="refused")
    died = [job.ended / HOUR for job in cluster.past if job.began < inf and job.ready == inf]
    if died:
        panel.plot(died, [3.0] * len(died), "x", color="black", markersize=4, label="died at once")
    panel.set_ylabel("jobs")


def draw_slots(panel: pyplot.Axes, hours: list[float], cluster: Cluster) -> None:
    """Slots of running jobs, and those at work."""
    slots = [look.running * cluster.limits.slots for look in cluster.diary]
    busy = [look.busy for look in cluster.diary]
    panel.fill_between(hours, slots, color="#cccccc", label="slots of running jobs")
    panel.fill_between(hours, busy, color=GREEN, label="at work")
    panel.set_ylabel("slots")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
