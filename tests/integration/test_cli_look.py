"""status, list, show, retry and cancel on a real MongoDB, from a store with every state in it."""

import json

import pytest

from support.farm import Desk, desk
from support.work import fail, finish, give_up, plan_of, plans, states, take, water, work_off

__all__ = ["desk"]


@pytest.fixture
def busy(desk: Desk) -> Desk:
    """One fragment done, one failed, one running its second attempt, one untouched."""
    made = plans(3)
    desk.store.add([*made, plan_of(water(9, fragment_class="ion", tags=("late",)))])
    finish(desk.store, take(desk.store))
    finish(desk.store, take(desk.store))
    give_up(desk.store, take(desk.store), "no rung is left after 60 iterations")
    fail(desk.store, take(desk.store))
    take(desk.store)
    assert states(desk.store) == {
        ("preopt", "done"): 1,
        ("preopt", "failed"): 1,
        ("preopt", "running"): 1,
        ("preopt", "ready"): 1,
        ("single_point", "done"): 1,
        ("single_point", "waiting"): 3,
    }
    return desk


def ids(desk: Desk) -> dict[str, str]:
    """Full ids by the state of their pre-optimisation."""
    lines = desk.run("list", "--stage", "preopt", "--json").raw.splitlines()
    return {row["state"]: row["fragment_id"] for row in map(json.loads, lines)}


def test_status(busy: Desk) -> None:
    said = busy.run("status")
    assert said.code == 0
    lines = said.out.splitlines()
    assert "preopt 0 1 1 1 1 0 4" in lines
    assert "single_point 3 0 0 1 0 0 4" in lines
    assert any(line.startswith("Workflows in FireWorks: COMPLETED 1, FIZZLED 1") for line in lines)
    assert any("node1 4711" in line and line.endswith("left") for line in lines)
    assert any("no rung is left after 60 iterations check the charge" in line for line in lines)
    assert lines[-1].startswith("Next: 1 attempt under way")


def test_status_as_json_agrees_with_the_store(busy: Desk) -> None:
    found = json.loads(busy.run("status", "--json").raw)
    assert found["workflows"] == busy.store.workflow_counts()
    assert found["stages"]["preopt"]["failed"] == 1
    assert found["failures"][0]["count"] == 1
    assert found["running"][0]["attempt"] == 2


def test_status_of_an_empty_farm(desk: Desk) -> None:
    assert "The farm is empty: qfarm submit FILE" in desk.run("status").out


def test_list_filters(busy: Desk) -> None:
    def count(*arguments: str) -> int:
        return len(busy.run("list", "--json", *arguments).raw.splitlines())

    assert count() == 8
    assert count("--state", "failed") == 1
    assert count("--state", "waiting") == 3
    assert count("--stage", "preopt") == 4
    assert count("--class", "ion") == 2
    assert count("--tag", "late", "--state", "ready") == 1
    assert count("--limit", "3") == 3
    assert count("--limit", "0") == 8
    assert count("--class", "nothing") == 0


def test_short_ids_of_the_list_open_the_fragment(busy: Desk) -> None:
    shown = busy.run("list", "--state", "failed").out.splitlines()[-1]
    short = shown.split()[0]
    full = ids(busy)["failed"]
    assert full.startswith(short)
    assert len(short) < 20
    said = busy.run("show", short)
    assert said.code == 0
    assert f"Fragment {full}" in said.out
    assert "Why it failed: no rung is left after 60 iterations" in said.out
    assert "What to do: check the charge" in said.out


def test_show_a_finished_fragment(busy: Desk) -> None:
    done = ids(busy)["done"]
    said = busy.run("show", done)
    assert "Stage preopt: done" in said.out
    assert "Stage single_point: done" in said.out
    assert "energy -2077.500000 eV" in said.out
    assert "RMSD of the geometry after 'preopt' from the submitted one: 0.0000 A" in said.out
    found = json.loads(busy.run("show", done, "--json").raw)
    assert len(found["records"]) == 2


def test_show_without_a_match_and_with_too_many(busy: Desk) -> None:
    none, many = busy.run("show", "fzzz"), busy.run("show", "f")
    assert (none.code, many.code) == (1, 1)
    assert "fzzz" in none.err
    assert "more than one fragment" in many.err


def test_retry_failed(busy: Desk) -> None:
    said = busy.run("retry", "--all-failed", "--yes")
    assert said.code == 0, said.err
    assert "1 stage will be tried again" in said.err
    assert states(busy.store)["preopt", "ready"] == 2
    again = busy.run("retry", "--all-failed", "--yes")
    assert again.code == 1
    assert "there is nothing to retry" in again.err


def test_cancel_then_retry_by_id(busy: Desk) -> None:
    running = ids(busy)["running"]
    said = busy.run("cancel", running[:20], "--yes")
    assert said.code == 0, said.err
    assert "2 stages cancelled" in said.err
    assert states(busy.store)["preopt", "cancelled"] == 1
    assert busy.run("retry", running, "--yes").code == 0
    assert ("preopt", "cancelled") not in states(busy.store)


def test_cancel_by_class_and_stage(busy: Desk) -> None:
    said = busy.run("cancel", "--class", "ion", "--stage", "single_point", "--yes")
    assert "1 stage cancelled" in said.err
    assert states(busy.store)["single_point", "cancelled"] == 1


def test_cancel_all_keeps_what_is_done(busy: Desk) -> None:
    busy.run("cancel", "--all", "--yes")
    found = states(busy.store)
    assert found["preopt", "done"] == found["single_point", "done"] == 1
    assert sum(found.values()) == 8
    assert not {state for _, state in found} & {"ready", "running", "waiting"}
    assert work_off(busy.store) == []


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_nothing_named_or_nobody_to_ask_changes_nothing(busy: Desk, verb: str) -> None:
    before = states(busy.store)
    empty = busy.run(verb)
    assert empty.code == 1
    assert "nothing is named" in empty.err
    asked = busy.run(verb, *{"retry": ["--all-failed"], "cancel": ["--all"]}[verb], ask="y\n")
    assert asked.code == 1
    assert "Add --yes" in asked.err
    assert states(busy.store) == before
