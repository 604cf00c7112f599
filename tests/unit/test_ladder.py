"""The ladder: every decision from the history alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.ladder import (
    LARGE,
    Aid,
    Done,
    GiveUp,
    Ladder,
    Retry,
    decide,
    deviations,
    effective_level,
    fallback_level,
    settings,
)
from qfarm_schemas.attempt import Failure, Rung
from qfarm_schemas.config import Policy
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import BasisTier
from support.build import GENEROUS, PBE0, attempt, failure, history, stage

LADDER = Ladder(
    scf=(Aid("diis"), Aid("damped", {"damp": 0.5}), Aid("level-shift"), Aid("newton")),
    geometry=(Aid("bfgs"), Aid("fire")),
)
FULL = Ladder(
    scf=(Aid("plain"), Aid("start", {"start_up": True}), Aid("final", {"restart": True})),
    overlap=(Aid("as-is"), Aid("threshold", {"basis_threshold": 1e-5}, "basis_threshold 1e-5")),
    memory=(Aid("all-ranks"), Aid("half-ranks", {"ranks_divisor": 2})),
)
START_UP = FailureKind.START_UP
ILL = FailureKind.ILL_CONDITIONED
OOM = FailureKind.OUT_OF_MEMORY
SCF = FailureKind.SCF_NOT_CONVERGED
GEOMETRY = FailureKind.GEOMETRY_NOT_CONVERGED
LOST = FailureKind.LOST_WORKER
SMALL = 24

kinds = st.lists(st.sampled_from(FailureKind), max_size=12)
sizes = st.integers(2, 402)


def ask(*past: FailureKind, n_atoms: int = SMALL, **policy: object):
    return decide(history(*past), stage(policy=Policy(**policy)), LADDER, n_atoms)


class TestClimbing:
    def test_begins_on_the_lowest_rung(self) -> None:
        assert ask() == Retry(Rung(scf="diis", geometry="bfgs"))

    def test_climbs_the_scf_rungs_in_order(self) -> None:
        climbed = [ask(*[SCF] * n).rung.scf for n in range(4)]
        assert climbed == ["diis", "damped", "level-shift", "newton"]

    def test_gives_up_after_the_last_and_names_them(self) -> None:
        end = ask(SCF, SCF, SCF, SCF)
        assert isinstance(end, GiveUp)
        assert "diis, damped, level-shift, newton" in end.reason
        assert "it failed" in end.reason
        assert end.remedy == "cure scf-not-converged"

    @pytest.mark.parametrize(
        "kind", [SCF, FailureKind.THRESHOLD_MISSED, FailureKind.UNSTABLE_SOLUTION]
    )
    def test_all_scf_failures_climb(self, kind) -> None:
        assert ask(kind) == Retry(Rung(scf="damped", geometry="bfgs"))

    def test_geometry_has_rungs_of_its_own(self) -> None:
        assert ask(GEOMETRY) == Retry(Rung(scf="diis", geometry="fire"))
        assert ask(SCF, GEOMETRY) == Retry(Rung(scf="damped", geometry="fire"))
        assert isinstance(ask(GEOMETRY, GEOMETRY), GiveUp)

    @pytest.mark.parametrize(
        "kind",
        [
            FailureKind.BAD_GEOMETRY,
            FailureKind.NO_GAP,
            FailureKind.METHOD_FAILED,
            FailureKind.OUT_OF_MEMORY,
            FailureKind.TIME_LIMIT,
        ],
    )
    def test_hopeless_failures_end_at_once(self, kind) -> None:
        assert ask(kind) == GiveUp("it failed", f"cure {kind.value}")

    def test_success_is_done_whatever_came_before(self) -> None:
        past = (*history(SCF, LOST), attempt(number=3))
        assert decide(past, stage(), LADDER, SMALL) == Done()

    def test_a_failure_committed_after_a_success_changes_nothing(self) -> None:
        past = (attempt(number=1), attempt(failure(LOST), number=2))
        assert decide(past, stage(), LADDER, SMALL) == Done()

    def test_an_engine_without_rungs_gets_one_try_at_chemistry(self) -> None:
        assert decide((), stage(), Ladder(), SMALL) == Retry(Rung())
        assert isinstance(decide(history(SCF), stage(), Ladder(), SMALL), GiveUp)


def ask_full(*past: Failure, n_atoms: int = SMALL):
    attempts = tuple(attempt(one, number) for number, one in enumerate(past, 1))
    return decide(attempts, stage(policy=GENEROUS), FULL, n_atoms)


def out_of_memory(ranks: object) -> Failure:
    return failure(OOM).model_copy(update={"evidence": {"ranks": ranks}})


class TestOtherSides:
    def test_a_start_up_leads_to_the_rung_it_prepares(self) -> None:
        assert ask_full(failure(SCF)).rung.scf == "start"
        assert ask_full(failure(SCF), failure(START_UP)).rung.scf == "final"
        assert ask_full(failure(SCF), failure(SCF)).rung.scf == "final"

    def test_an_ill_conditioned_overlap_climbs_its_own_side(self) -> None:
        assert ask_full(failure(ILL)).rung == Rung(
            scf="plain", overlap="threshold", memory="all-ranks"
        )
        assert isinstance(ask_full(failure(ILL), failure(ILL)), GiveUp)

    def test_fewer_ranks_for_a_lack_of_memory(self) -> None:
        assert ask_full(out_of_memory(8)).rung.memory == "half-ranks"
        assert isinstance(ask_full(out_of_memory(8), out_of_memory(4)), GiveUp)

    @pytest.mark.parametrize("ranks", [1, 0, None, "8"])
    def test_without_ranks_to_spare_a_lack_of_memory_is_the_end(self, ranks) -> None:
        assert isinstance(ask_full(out_of_memory(ranks)), GiveUp)

    def test_above_350_atoms_the_basis_falls_before_the_ranks_do(self) -> None:
        down = ask_full(out_of_memory(8), n_atoms=360).rung
        assert (down.basis, down.memory) == (BasisTier.INTERMEDIATE, "all-ranks")
        lower = ask_full(out_of_memory(8), out_of_memory(8), n_atoms=360).rung
        assert (lower.basis, lower.memory) == (BasisTier.INTERMEDIATE, "half-ranks")

    def test_a_start_up_is_no_failure_of_the_basis(self) -> None:
        assert ask_full(failure(START_UP), n_atoms=360).rung.basis is None


class TestDeviations:
    def test_plain_rungs_have_none(self) -> None:
        assert deviations(PBE0, Rung(scf="final", overlap="as-is"), FULL) == ()
        assert deviations(PBE0, Rung(), Ladder()) == ()

    def test_aids_and_the_fallback_are_told(self) -> None:
        rung = Rung(scf="plain", overlap="threshold", basis=BasisTier.INTERMEDIATE)
        assert deviations(PBE0, rung, FULL) == (
            "basis intermediate instead of tight (rung fallback above 350 atoms)",
            "basis_threshold 1e-5",
        )


class TestBudgets:
    def test_infrastructure_costs_no_rung_and_no_chemistry(self) -> None:
        past = [LOST] * 5 + [SCF] + [FailureKind.WALLTIME] * 3
        assert ask(*past) == Retry(Rung(scf="damped", geometry="bfgs"))

    @pytest.mark.parametrize(
        ("kind", "budget"),
        [
            (LOST, "infrastructure"),
            (FailureKind.WALLTIME, "infrastructure"),
            (FailureKind.CRASHED, "node"),
            (FailureKind.BAD_OUTPUT, "node"),
            (SCF, "chemistry"),
        ],
    )
    def test_each_is_spent_on_its_own(self, kind, budget) -> None:
        assert isinstance(ask(kind, **{budget: 2}), Retry)
        end = ask(kind, kind, **{budget: 2})
        assert isinstance(end, GiveUp)
        assert f"2 failures used up the {budget} budget" in end.reason
        assert end.remedy == f"cure {kind.value}"

    def test_the_reason_quotes_the_failure_of_that_budget(self) -> None:
        past = (
            attempt(failure(FailureKind.CRASHED, "signal 11"), 1),
            attempt(failure(FailureKind.INTERRUPTED, "Ctrl-C"), 2),
            attempt(failure(LOST, "host gone"), 3),
        )
        end = decide(past, stage(policy=Policy(node=1)), LADDER, SMALL)
        assert end == GiveUp(
            "1 failures used up the node budget; the last: signal 11", "cure crashed"
        )

    def test_interruptions_by_the_user_are_free(self) -> None:
        assert isinstance(ask(*[FailureKind.INTERRUPTED] * 50, infrastructure=1), Retry)


class TestBasisFallback:
    @pytest.mark.parametrize("kind", [SCF, FailureKind.OUT_OF_MEMORY, FailureKind.TIME_LIMIT])
    def test_above_350_atoms_a_failed_tight_attempt_goes_to_intermediate(self, kind) -> None:
        down = Rung(scf="diis", geometry="bfgs", basis=BasisTier.INTERMEDIATE)
        assert ask(kind, n_atoms=LARGE + 1) == Retry(down)

    def test_then_climbs_every_rung_there(self) -> None:
        rungs = [ask(*[SCF] * n, n_atoms=360, chemistry=9) for n in range(1, 5)]
        assert [r.rung.scf for r in rungs] == ["diis", "damped", "level-shift", "newton"]
        assert {r.rung.basis for r in rungs} == {BasisTier.INTERMEDIATE}
        assert isinstance(ask(*[SCF] * 5, n_atoms=360, chemistry=9), GiveUp)

    @pytest.mark.parametrize("kind", [FailureKind.OUT_OF_MEMORY, FailureKind.TIME_LIMIT])
    def test_too_large_at_the_smaller_basis_too_is_the_end(self, kind) -> None:
        assert ask(kind, kind, n_atoms=360) == GiveUp("it failed", f"cure {kind.value}")

    def test_stays_down_after_a_lost_worker(self) -> None:
        assert ask(SCF, LOST, n_atoms=360).rung.basis is BasisTier.INTERMEDIATE

    @pytest.mark.parametrize("kind", [LOST, FailureKind.CRASHED, FailureKind.BAD_OUTPUT])
    def test_is_not_for_faults_of_machines(self, kind) -> None:
        assert ask(kind, n_atoms=360).rung.basis is None

    @given(past=kinds, n_atoms=st.integers(2, LARGE))
    def test_never_at_350_atoms_or_fewer(self, past, n_atoms) -> None:
        decision = decide(history(*past), stage(policy=GENEROUS), LADDER, n_atoms)
        assert isinstance(decision, GiveUp) or decision.rung.basis is None

    @given(past=kinds)
    def test_never_when_the_policy_forbids_it(self, past) -> None:
        policy = GENEROUS.model_copy(update={"basis_above_350": None})
        decision = decide(history(*past), stage(policy=policy), LADDER, 400)
        assert isinstance(decision, GiveUp) or decision.rung.basis is None

    def test_never_from_another_tier(self) -> None:
        level = PBE0.model_copy(update={"basis": BasisTier.INTERMEDIATE})
        decision = decide(history(SCF), stage(level=level), LADDER, 400)
        assert decision == Retry(Rung(scf="damped", geometry="bfgs"))


class TestProperties:
    @given(past=kinds, n_atoms=sizes)
    def test_every_story_ends(self, past, n_atoms) -> None:
        # However failures come, a stage cannot fail for ever: budgets bound the attempts.
        paid = [kind for kind in past if kind is not FailureKind.INTERRUPTED]
        policy = Policy()
        decision = decide(history(*past), stage(policy=policy), LADDER, n_atoms)
        if len(paid) >= policy.chemistry + policy.node + policy.infrastructure - 2:
            assert isinstance(decision, GiveUp)

    @given(past=kinds, more=kinds, n_atoms=sizes)
    def test_a_given_up_stage_stays_given_up(self, past, more, n_atoms) -> None:
        if isinstance(decide(history(*past), stage(), LADDER, n_atoms), GiveUp):
            assert isinstance(decide(history(*past, *more), stage(), LADDER, n_atoms), GiveUp)

    @given(past=kinds, n_atoms=sizes)
    def test_a_rung_is_always_one_of_the_ladder(self, past, n_atoms) -> None:
        decision = decide(history(*past), stage(), LADDER, n_atoms)
        if isinstance(decision, Retry):
            assert decision.rung.scf in {aid.name for aid in LADDER.scf}
            assert decision.rung.geometry in {aid.name for aid in LADDER.geometry}

    @given(past=kinds)
    def test_thresholds_never_change(self, past) -> None:
        decision = decide(history(*past), stage(), LADDER, 400)
        if isinstance(decision, Retry):
            level = effective_level(PBE0, decision.rung)
            same = PBE0.model_copy(update={"basis": level.basis})
            assert level == same
            assert level.thresholds == PBE0.thresholds


def test_effective_level_without_fallback_is_the_level() -> None:
    assert effective_level(PBE0, Rung()) is PBE0
    lower = effective_level(PBE0, Rung(basis=BasisTier.INTERMEDIATE))
    assert lower.basis is BasisTier.INTERMEDIATE
    assert lower.id != PBE0.id


@pytest.mark.parametrize(
    ("n_atoms", "policy", "tier"),
    [
        (LARGE, Policy(), None),
        (LARGE + 1, Policy(), BasisTier.INTERMEDIATE),
        (LARGE + 1, Policy(basis_above_350="light"), BasisTier.LIGHT),
        (LARGE + 1, Policy(basis_above_350="none"), None),
    ],
)
def test_fallback_level(n_atoms, policy, tier) -> None:
    found = fallback_level(stage(policy=policy), n_atoms)
    assert (found and found.basis) is tier


def test_settings_by_name() -> None:
    assert settings(LADDER.scf, "damped") == {"damp": 0.5}
    assert settings(LADDER.scf, "no such rung") == {}
