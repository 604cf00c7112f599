"""Errors of qfarm.

::

    QfarmError
    ├── UserError            safe to print: says what happened, where, what to do next
    │   ├── ConfigError      qfarm.toml, environment or a protocol file
    │   ├── InputError       fragments that cannot be accepted
    │   ├── StoreError       MongoDB cannot be reached or refuses
    │   ├── ScratchFullError no space for attempts on this machine
    │   └── NotFoundError    no such fragment, protocol or engine
    └── LeaseLostError       another worker owns the task now: drop the result

Scientific failure is never an exception: see `qfarm_schemas.attempt.Failure`.
"""

from typing import Self


class QfarmError(Exception):
    """Base of all errors that qfarm raises on purpose."""


class UserError(QfarmError):
    """What happened, where, and what to do next; safe to show as it is.

    Parameters
    ----------
    what : str
        What happened and where, one sentence.
    remedy : str
        What to do next, one sentence.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}\n{remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """Pickle both parts, for errors of worker processes."""
        return type(self), (self.what, self.remedy)


class ConfigError(UserError):
    """The configuration or a protocol file is wrong."""


class InputError(UserError):
    """Fragments cannot be accepted."""


class StoreError(UserError):
    """MongoDB cannot be reached, or refuses."""


class ScratchFullError(UserError):
    """No space for attempts on this machine: they would all fail, so none is started."""


class NotFoundError(UserError):
    """No such fragment, protocol or engine."""


class LeaseLostError(QfarmError):
    """The lease ended and the task belongs to someone else: the result must be dropped."""
