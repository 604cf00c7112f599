"""fsck: proves that the collections of a farm agree, and brings them back into step.

``model`` is what is read; ``table`` the invariants, one entry each, which the pure functions of
``workflows``, ``results``, ``states`` and ``launches`` find and cure; ``cure`` applies them until
nothing is left to do. Around this core ``pages`` reads, ``settle`` looks again and repairs in a
transaction, ``sweeps`` looks for what belongs to nothing, ``deep`` opens every document,
``farm`` sees to counters and indexes, and ``examine`` leads.
"""

from qfarm.store.fsck.examine import Options, fsck
from qfarm.store.fsck.report import Example, Report, Tally
from qfarm.store.fsck.table import BY_NAME, INVARIANTS, Invariant

__all__ = ["BY_NAME", "INVARIANTS", "Example", "Invariant", "Options", "Report", "Tally", "fsck"]
