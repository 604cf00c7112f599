"""Many-body dispersion MBD@rsSCS: energy and analytic gradient at fixed Hirshfeld ratios."""

from qfarm.engines.mbd.rsscs import (
    MbdCollapse,
    MbdResult,
    mbd_energy,
    mbd_energy_and_gradient,
)

__all__ = ["MbdCollapse", "MbdResult", "mbd_energy", "mbd_energy_and_gradient"]
