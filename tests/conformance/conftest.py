"""Fixtures of the engines' conformance suite: every engine of the table, and a good run of each."""

import pytest

from conformance.engine_cases import CASES, Case
from conformance.engine_runs import Made, make_job, run, runnable
from qfarm.engines import TABLE
from qfarm.engines.base import Engine


@pytest.fixture(scope="session", params=sorted(TABLE))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="session")
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture(scope="session")
def tested(name: str) -> Engine:
    return runnable(name)


@pytest.fixture(scope="session")
def single_point(tested: Engine, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return run(tested, make_job(case), tmp_path_factory.mktemp("single_point"))
