"""Functionals: names in a level of theory, keywords of FHI-aims, and its words for them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from qfarm_schemas.level import Dispersion

XC: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PBE0": "pbe0",
        "PBE": "pbe",
        "HSE06": "hse06 0.11",
        "HF": "hf",
        "PW-LDA": "pw-lda",
    }
)
"""Method of a level -> value of the keyword ``xc`` in control.in."""

WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PBE0": "Using hybrid-PBE0 functionals",
        "PBE": "Using PBE gradient-corrected functionals",
        "HSE06": "Using HSE-functional with OMEGA",
        "PW-LDA": "Using Perdew-Wang parametrisation of Ceperley-Alder LDA",
    }
)
"""Method -> how the output's ``XC:`` line begins (versions 150620 to 231212; Hartree-Fock has no
such line)."""

DISPERSION: Final[Mapping[Dispersion, str]] = MappingProxyType(
    {
        Dispersion.MBD: "many_body_dispersion",
        Dispersion.MBD_NL: "many_body_dispersion_nl",
    }
)
"""Dispersion of a level -> keyword in control.in."""

VDW_METHOD: Final[Mapping[Dispersion, str]] = MappingProxyType(
    {Dispersion.MBD: "mbd-rsscs", Dispersion.MBD_NL: "mbd-nl"}
)
"""Dispersion of a level -> what the output calls it (``Libmbd: VdW method:``)."""

DEFAULT_BETA: Final[Mapping[tuple[Dispersion, str], float]] = MappingProxyType(
    {
        (Dispersion.MBD, "PBE"): 0.83,
        (Dispersion.MBD, "PBE0"): 0.85,
        (Dispersion.MBD, "HSE06"): 0.85,
        (Dispersion.MBD_NL, "PBE"): 0.81,
        (Dispersion.MBD_NL, "PBE0"): 0.83,
        (Dispersion.MBD_NL, "HSE06"): 0.83,
    }
)
"""Beta that FHI-aims takes where control.in says none: libMBD's table of damping parameters."""
