"""Fit: ln(cost) = a + b ln(size), from any number of records, with what it does not know. Pure.

Bayesian linear regression with a conjugate (normal, inverse gamma) prior, whose predictions are
Student's t: A. Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), sections 14.2 and 14.8. The
start value is the prior, so that no record, one and a thousand are the same formula. Outliers are
drawn in to a few standard deviations from the line, by iteration: P. J. Huber, Robust Statistics
(1981), section 7.8 ("modified residuals").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, log, sqrt
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from qfarm_schemas.base import Model

SURE: Final = 0.95
"""Part of the costs that stay below `Prediction.upper95`."""

CLIP: Final = 2.5
"""Standard deviations beyond which a residual counts as if it were so large. Of normal residuals
this changes one in eighty, and the variance by the factor below."""

_KEPT: Final = 0.9775
"""Variance of a standard normal variable that is drawn in to +-`CLIP`."""

_MAD: Final = 1.4826
"""Standard deviation of a normal variable by its median absolute deviation."""

DRIFT: Final = 0.25
"""Standard deviation of the exponent beyond the largest size that was seen, however many records
there are: the true curve bends there, because steps of higher order take over."""

_ROUNDS: Final = 50
_SETTLED: Final = 1e-9
"""Of the iteration; change of ln(cost)."""

_HIGHEST: Final = 600.0
"""exp() of more would soon be infinite."""


class Guess(Model):
    """What is thought before anything was measured, ``value * (size / size_0) ** exponent``.

    Attributes
    ----------
    size, value : float
        A size, and the cost there.
    exponent : float
        How it grows.
    spread : float
        Standard deviation of ln(value): 0.7 is a factor of two either way.
    exponent_spread : float
        Standard deviation of the exponent.
    scatter : float
        Standard deviation of ln(cost) among fragments of one size.
    lowest, highest : float
        What the exponent can be.
    """

    size: float = Field(gt=0, allow_inf_nan=False)
    value: float = Field(gt=0, allow_inf_nan=False)
    exponent: float = Field(ge=0, allow_inf_nan=False)
    spread: float = Field(default=0.8, gt=0, allow_inf_nan=False)
    exponent_spread: float = Field(default=0.4, gt=0, allow_inf_nan=False)
    scatter: float = Field(default=0.3, gt=0, allow_inf_nan=False)
    lowest: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    highest: float = Field(default=4.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.lowest <= self.exponent <= self.highest:
            raise ValueError("the exponent is not between lowest and highest")
        return self


WEIGHT: Final = 4.0
"""Records that `Guess.scatter` is worth."""

_OF_GUESS: Final = 2.1318467863266495
"""Student's t with `WEIGHT` degrees of freedom that `SURE` of it stays below."""


@dataclass(frozen=True)
class Prediction:
    """A cost that is foreseen.

    Attributes
    ----------
    median : float
        As many cost less as cost more.
    upper95 : float
        95 in 100 cost less.
    """

    median: float
    upper95: float

    def __mul__(self, factor: float) -> "Prediction":
        return Prediction(self.median * factor, self.upper95 * factor)


class Fit(Model):
    """A line through logarithms, and how sure it is.

    Attributes
    ----------
    centre : float
        ln(size) where the line is best known.
    height : float
        ln(cost) there.
    exponent : float
        Slope.
    scale : float
        Standard deviation of ln(cost) around the line.
    height_variance, exponent_variance : float
        Of `height` and `exponent`, in units of ``scale ** 2``; they are not correlated.
    quantile : float
        Student's t that `SURE` of the costs stay below.
    reach : float
        ln of the largest size that was seen.
    records : int
        Behind it.
    """

    centre: float = Field(allow_inf_nan=False)
    height: float = Field(allow_inf_nan=False)
    exponent: float = Field(ge=0, allow_inf_nan=False)
    scale: float = Field(gt=0, allow_inf_nan=False)
    height_variance: float = Field(ge=0, allow_inf_nan=False)
    exponent_variance: float = Field(ge=0, allow_inf_nan=False)
    quantile: float = Field(gt=0, allow_inf_nan=False)
    reach: float = Field(allow_inf_nan=False)
    records: int = Field(default=0, ge=0)

    def predict(self, size: float) -> Prediction:
        """Cost of a size above 0; it never falls when the size grows."""
        x = log(size)
        highest = self._upper(max(x, self._turn()))
        return Prediction(_exp(self.height + self.exponent * (x - self.centre)), _exp(highest))

    def _upper(self, x: float) -> float:
        away = x - self.centre
        variance = 1 + self.height_variance + self.exponent_variance * away**2
        beyond = DRIFT * max(0.0, x - self.reach)
        spread = sqrt(self.scale**2 * variance + beyond**2)
        return self.height + self.exponent * away + self.quantile * spread

    def _turn(self) -> float:
        """Where the upper end is lowest.

        Below, it would rise again for want of records; but small fragments cost no more than
        large ones.
        """
        k, v = (self.quantile * self.scale) ** 2, self.exponent_variance
        steep = k * v - self.exponent**2
        if v == 0 or steep <= 0:
            return -inf
        return self.centre - self.exponent * sqrt((1 + self.height_variance) / (v * steep))


def fit(sizes: Sequence[float], costs: Sequence[float], guess: Guess) -> Fit:
    """Draw the line.

    Parameters
    ----------
    sizes, costs : sequence of float, of one length
        What was measured, in any order; pairs that are not finite and above 0 are left out.
    guess : Guess
        What was thought before.
    """
    x, y = _logarithms(sizes, costs)
    line = _drawn_in(x, y, guess)
    freedom = WEIGHT + len(x)
    return Fit(
        centre=log(guess.size) + line.centre,
        height=line.height,
        exponent=line.exponent,
        scale=sqrt(line.squares / freedom),
        height_variance=1 / line.height_weight,
        exponent_variance=1 / line.exponent_weight,
        quantile=_quantile(freedom),
        reach=max([log(guess.size), *x[-1:].tolist()]),
        records=len(x),
    )


@lru_cache(maxsize=256)
def guessed(guess: Guess) -> Fit:
    """The line when nothing was measured."""
    return fit((), (), guess)


def known_elsewhere(line: Fit, guess: Guess, spread: float, exponent_spread: float) -> Guess:
    """What a line tells of a place that differs from its own by `spread` and `exponent_spread`."""
    height = line.height_variance * line.scale**2 + spread**2
    exponent = line.exponent_variance * line.scale**2 + exponent_spread**2
    return guess.model_copy(
        update={
            "size": _exp(line.centre),
            "value": _exp(line.height),
            "exponent": line.exponent,
            "spread": sqrt(height),
            "exponent_spread": sqrt(exponent),
            "scatter": line.scale,
        }
    )


_Numbers = NDArray[np.float64]


class _Line(NamedTuple):
    """A line over ln(size / size of the guess); `squares` is the sum that gives the scale."""

    centre: float
    height: float
    exponent: float
    height_weight: float
    exponent_weight: float
    squares: float

    def at(self, x: _Numbers) -> _Numbers:
        return self.height + self.exponent * (x - self.centre)


def _logarithms(sizes: Sequence[float], costs: Sequence[float]) -> tuple[_Numbers, _Numbers]:
    """Logarithms of the good pairs, in order, so that sums do not depend on the order given."""
    pairs = np.array([sizes, costs], dtype=np.float64)
    good = np.isfinite(pairs).all(axis=0) & (pairs > 0).all(axis=0)
    x, y = np.log(pairs[:, good])
    order = np.lexsort((y, x))
    return x[order], y[order]


def _drawn_in(x: _Numbers, y: _Numbers, guess: Guess) -> _Line:
    """The line that outliers hardly move."""
    x = x - log(guess.size)
    line = _straight(x, y, guess)
    for _ in range(_ROUNDS if len(x) else 0):
        middle = line.at(x)
        reach = CLIP * _deviation(y - middle, guess)
        before, line = (
            line,
            _straight(x, middle + np.clip(y - middle, -reach, reach), guess),
        )
        if np.abs(line.at(x) - before.at(x)).max() < _SETTLED:
            break
    return line


def _deviation(residuals: _Numbers, guess: Guess) -> float:
    """Standard deviation of residuals by their median, with that of the guess mixed in."""
    measured = len(residuals) * (_MAD * float(np.median(np.abs(residuals)))) ** 2
    return sqrt((WEIGHT * guess.scatter**2 + measured) / (WEIGHT + len(residuals)))


def _straight(x: _Numbers, y: _Numbers, guess: Guess) -> _Line:
    """Least squares, the guess taken as records; the exponent within its limits."""
    start, of_height = log(guess.value), (guess.scatter / guess.spread) ** 2
    of_exponent = (guess.scatter / guess.exponent_spread) ** 2
    height_weight = of_height + len(x)
    centre = float(x.sum()) / height_weight
    exponent_weight = of_exponent + float(((x - centre) ** 2).sum()) + of_height * centre**2
    height = (of_height * start + float(y.sum())) / height_weight
    moment = float(((x - centre) * (y - height)).sum()) + of_height * centre * (height - start)
    exponent = (of_exponent * guess.exponent + moment) / exponent_weight
    exponent = min(max(exponent, guess.lowest), guess.highest)
    line = _Line(centre, height, exponent, height_weight, exponent_weight, 0.0)
    return line._replace(squares=_squares(line, x, y, guess))


def _squares(line: _Line, x: _Numbers, y: _Numbers, guess: Guess) -> float:
    """Sum of squares, in which the guess is off like a record is, and drawn in like one."""
    at_start = line.height - line.exponent * line.centre
    off = (
        (at_start - log(guess.value)) / guess.spread,
        (line.exponent - guess.exponent) / guess.exponent_spread,
    )
    of_guess = WEIGHT + sum(min(CLIP, abs(one)) ** 2 for one in off)
    of_records = float(((y - line.at(x)) ** 2).sum()) / _KEPT
    return guess.scatter**2 * of_guess + of_records


def _quantile(freedom: float) -> float:
    if freedom == WEIGHT:
        return _OF_GUESS
    from scipy.special import stdtrit  # slow to import, and only who learns needs it

    return float(stdtrit(freedom, SURE))


def _exp(value: float) -> float:
    return exp(min(value, _HIGHEST))
