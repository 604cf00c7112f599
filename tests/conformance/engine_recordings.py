"""Recorded outputs of the programs behind the engines, on the site of their case."""

from dataclasses import replace
from functools import cache
from importlib import import_module

from conformance.engine_cases import CASES
from conformance.engine_runs import on_site
from support.recorded import Recorded


@cache
def recordings(engine_name: str) -> tuple[Recorded, ...]:
    """Every recording, and those completed with what the recorded run was not asked for."""
    case = CASES[engine_name]
    if not case.recorded:
        return ()
    module = import_module(f"support.{case.recorded}")
    completed = getattr(module, "completed", tuple)
    found = (*module.recorded(), *completed())
    return tuple(replace(one, job=on_site(case, one.job)) for one in found)


def good_ones(engine_name: str) -> tuple[Recorded, ...]:
    """Those that must be accepted."""
    return tuple(one for one in recordings(engine_name) if one.kind is None)
