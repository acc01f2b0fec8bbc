"""The power law that errors follow as pictures are added, fitted to a handful of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EXPONENTS = np.linspace(0.05, 1.0, 20)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = floor + factor * n ** -exponent (Hestness et al. 2017).

    Attributes:
        floor: what no number of pictures takes away, 0 or more.
        factor: 0 or more; 0 is a flat curve.
        exponent: above 0 and up to 1; how soon more pictures help.
    """

    floor: float
    factor: float
    exponent: float

    def error(self, pictures: float) -> float:
        """The error expected with so many pictures; up to 1."""
        return float(min(self.floor + self.factor * pictures**-self.exponent, 1.0))


def fit_power_laws(pictures: Array, errors: Array, weights: Array) -> list[PowerLaw]:
    """Fit one law to each row of errors by weighted least squares.

    The exponent is profiled: for each of a grid the law is linear in floor and factor, whose best
    values under the bounds are known in closed form (variable projection, Golub and Pereyra
    1973); the exponent with the smallest residual is taken. With about as many points as
    parameters an iterative fit would depend on where it starts; this one has no start, always
    ends, and fits hundreds of resamples at once.

    Args:
        pictures: float64 [P], three or more different values above 0.
        errors: float64 [R, P], each 0 to 1.
        weights: float64 [P], above 0; only their ratios matter.

    Returns:
        R laws.
    """
    share = weights / weights.sum()
    x = pictures ** -EXPONENTS[:, None]  # [E, P]
    x_mean, y_mean = x @ share, (errors @ share)[:, None]
    weighted = errors * share
    deviation = x - x_mean[:, None]
    # A rising error is a flat one under the bounds, and a floor below 0 is a floor of 0.
    factor = np.maximum(weighted @ deviation.T / (deviation**2 @ share), 0.0)  # [R, E]
    through_zero = weighted @ x.T / (x**2 @ share)
    factor = np.where(factor * x_mean > y_mean, through_zero, factor)
    floor = np.maximum(y_mean - factor * x_mean, 0.0)
    fitted = floor[..., None] + factor[..., None] * x
    best = ((errors[:, None] - fitted) ** 2 @ share).argmin(axis=1)
    rows = np.arange(len(errors))
    table = np.stack([floor[rows, best], factor[rows, best], EXPONENTS[best]], axis=1)
    return [PowerLaw(*row) for row in table.tolist()]
