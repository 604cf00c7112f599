"""The ladder of FHI-aims as data: what is tried, mildest first.

The SCF rungs follow the FHI-aims manual (section 3.10 and appendix A.8, "No convergence of the
s.c.f. cycle"). A rung that ends in ``-start`` only prepares a density: nothing of it is accepted,
so it may have another functional, more broadening and looser thresholds. The rung after it starts
from that density at the level's own functional and thresholds. Every rung whose result can be
accepted has a Gaussian occupation of `settings.BROADENING`, the default of FHI-aims: neither
restart nor mixing nor a start-up changes the number that a converged calculation gives, so they
are no deviations. The overlap rung is one, and says so.
"""

from typing import Final

from qfarm.ladder import Aid, Ladder

_SCF: Final = (
    Aid("plain"),
    Aid("restart", {"restart": True, "sc_iter_limit": 300}),
    Aid(
        "adjust-start",
        {"start_up": True, "automatic": True, "sc_iter_limit": 200, "write_every": 1},
    ),
    Aid("adjust", {"restart": True, "sc_iter_limit": 300}),
    Aid(
        "smeared-start",
        {
            "start_up": True,
            "charge_mix_param": 0.05,
            "broadening": 0.05,
            "sc_iter_limit": 300,
            "write_every": 1,
        },
    ),
    Aid("smeared", {"restart": True, "charge_mix_param": 0.05, "sc_iter_limit": 300}),
    Aid(
        "linear-start",
        {"start_up": True, "xc": "pbe", "sc_iter_limit": 300, "write_every": 1},
    ),
    Aid(
        "linear",
        {"restart": True, "mixer": "linear", "charge_mix_param": 0.1, "sc_iter_limit": 800},
    ),
)

_OVERLAP: Final = (
    Aid(""),
    Aid(
        "basis-threshold",
        {"basis_threshold": 1e-5, "override_illconditioning": True},
        deviation="basis_threshold 1e-5 with override_illconditioning "
        "(ill-conditioned overlap matrix)",
    ),
)

_MEMORY: Final = (
    Aid("all-ranks"),
    Aid("half-ranks", {"ranks_divisor": 2}),
    Aid("quarter-ranks", {"ranks_divisor": 4}),
)

LADDER: Final = Ladder(scf=_SCF, overlap=_OVERLAP, memory=_MEMORY)
"""Names and values of the models in `qfarm.engines.aims.settings`."""
