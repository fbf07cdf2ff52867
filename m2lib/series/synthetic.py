"""Made-up series, without end: what an adapter for any table learns from.

Each is a function of a random generator alone, and stands for a kind of real series. `draw_series`
takes one family or mixes several. No series of the study's data set, of a scored world or of a real
table is among them.
"""

import numpy as np
from scipy.signal import lfilter

from m2lib.series.data import (
    RECIPE,
    Rates,
    drifting,
    holling_three,
    lotka_volterra,
    predator_prey,
    solve_system,
)

CALENDAR = (
    4,
    4,
    5,
    7,
    7,
    12,
    12,
    12,
    13,
    24,
    52,
)  # steps of a calendar's seasons, quarters and months most often
BURN_IN = 200  # steps before the first that is kept: by then a filter has forgotten its start
LAG = 6  # steps by which one variable follows another, at most
RATES: tuple[Rates, ...] = (predator_prey, holling_three, lotka_volterra, drifting)


def draw_series(
    rng: np.random.Generator, steps: int, variables: int, without: str = ""
) -> np.ndarray:
    """A made-up series, float64 (steps, variables): predators and prey, or mixtures of latent
    series.

    without: the name of a family that is left out.
    """
    if rng.random() < (0.1 if variables == 1 else 0.3) and without != dynamics.__name__:
        pairs = [dynamics(rng, steps) for _ in range((variables + 1) // 2)]
        values = np.concatenate(pairs, axis=1)[:, rng.permutation(2 * len(pairs))[:variables]]
    else:
        # Each variable is a sum of latent series, most often of one, and may follow a few steps
        # behind.
        count = rng.choice((1, 2, 3), p=(0.6, 0.3, 0.1))
        latent = np.stack([_latent(rng, steps + LAG, without) for _ in range(count)])
        weights = rng.normal(size=(variables, len(latent)))
        behind = rng.integers(0, LAG + 1, variables) * rng.integers(0, 2, variables)
        mixed = [
            w @ latent[:, LAG - lag :][:, :steps] for w, lag in zip(weights, behind, strict=True)
        ]
        values = np.stack(mixed, axis=1)
        if variables > 1:
            values += np.stack(
                [rng.gamma(0.5) * _latent(rng, steps, without) for _ in range(variables)], axis=1
            )
    return _disturbed(rng, values)


def components(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Season, trend and level, added or multiplied, with noise: the components of exponential
    smoothing [1]_.

    References
    ----------
    .. [1] Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, 2021,
       chapter 8.
    """
    time, period = np.arange(steps), _period(rng, steps)
    if period <= 52 and rng.random() < 0.4:  # any value for each phase
        season = rng.standard_t(4, size=int(period))[time % int(period)]
    else:  # smooth: the first is a sine, more make it steeper
        orders = np.arange(1, rng.integers(2, 7))
        angles = 2 * np.pi * np.outer(orders, time) / period + rng.uniform(
            0, 2 * np.pi, (len(orders), 1)
        )
        season = (rng.normal(size=len(orders)) / orders ** rng.uniform(0.3, 1.5)) @ np.sin(angles)
    # Added, a trend may be twenty times a season's height, as CO2's is; multiplied, e^(0.4 * 5), a
    # factor of seven.
    multiplied = rng.random() < 0.5
    slope = rng.choice((-1, 0, 1), p=(0.3, 0.2, 0.5)) * _between(rng, 0.5, 5 if multiplied else 20)
    damping = 1.0 if rng.random() < 0.6 else rng.uniform(0.9, 0.995)
    trend = slope / steps * np.cumsum(damping**time)
    level = rng.choice((0.0, 0.05, 0.2)) * rng.normal(size=steps).cumsum()
    noise = _between(rng, 0.01, 1.0) * rng.normal(size=steps)
    season = _standard(season) * rng.choice((0.0, 0.5, 1.0, 2.0))
    if multiplied:
        return _standard(np.exp(0.4 * (trend + level)) * (3 + season + noise))
    return _standard(season + trend + level + noise)


def autoregression(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Seasonal ARIMA, stationary before it is summed up, because its partial autocorrelations are
    drawn [1]_ [2]_.

    References
    ----------
    .. [1] Barndorff-Nielsen and Schou, "On the Parametrization of Autoregressive Models by Partial
       Autocorrelations", Journal of Multivariate Analysis 3, 1973.
    .. [2] "Zero-shot forecasting by simulation alone", arXiv 2601.00970, 2026.
    """
    period = int(_period(rng, steps))
    noise = rng.standard_t(rng.choice((3, 10, 100)), size=BURN_IN + steps)
    values = lfilter(_stable(rng, int(rng.integers(3))), _stable(rng, int(rng.integers(4))), noise)
    if rng.random() < 0.6:
        seasonal = np.zeros(period + 1)
        seasonal[0], seasonal[period] = 1, -(1 - _between(rng, 0.01, 0.5))
        values = lfilter([1.0], seasonal, values)
    if rng.random() < 0.3:
        values = values.cumsum()
    return _standard(values[BURN_IN:])


def cycle(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A cycle whose height and phase wander [1]_, often with steep peaks as animals and sunspots
    have them.

    References
    ----------
    .. [1] Harvey, "Forecasting, Structural Time Series Models and the Kalman Filter", 1989, section
       2.3.
    """
    period = _between(rng, 4, max(8, steps / 2))
    turn = (1 - _between(rng, 0.003, 0.3) / period) * np.exp(2j * np.pi / period)
    shocks = rng.normal(size=(2, BURN_IN + steps))
    wave = _standard(lfilter([1.0], [1.0, -turn], shocks[0] + 1j * shocks[1]).real[BURN_IN:])
    steep = rng.choice((0.0, 0.5, 1.0))
    wave = _standard(np.exp(steep * wave)) if steep else wave
    return _standard(wave + _between(rng, 0.01, 0.5) * rng.normal(size=steps))


def counts(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Whole numbers, of a rate that changes or, as demand is, with zeros between [1]_.

    References
    ----------
    .. [1] Croston, "Forecasting and Stock Control for Intermittent Demands", Operational Research
       Quarterly 23, 1972.
    """
    course = (components, autoregression, cycle)[rng.integers(3)](rng, steps)
    rate = _between(rng, 0.3, 100) * np.exp(rng.uniform(0.1, 0.8) * np.clip(course, -4, 4))
    spread = _between(rng, 0.5, 100)  # gamma rates make the numbers vary more than Poisson's
    drawn = rng.poisson(rng.gamma(spread, rate / spread))
    return _standard(
        drawn * (rng.random(steps) < (1.0 if rng.random() < 0.7 else rng.uniform(0.1, 0.8)))
    )


def process(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A Gaussian process whose kernel is a sum or product of two to four simple ones [1]_.

    References
    ----------
    .. [1] Ansari et al., "Chronos: Learning the Language of Time Series", arXiv 2403.07815, section
       4.2.
    """
    time = np.arange(steps) / steps
    apart = np.abs(time[:, None] - time)

    def simple() -> np.ndarray:
        """One of four kernels (steps, steps), of a length and a period drawn anew."""
        length, waves = (
            _between(rng, 0.02, 1.0),
            np.sin(np.pi * apart * steps / _period(rng, steps)),
        )
        return (
            np.exp(-((apart / length) ** 2) / 2),
            np.exp(-apart / length),
            np.exp(-2 * (waves / rng.uniform(0.5, 2)) ** 2),
            4 * np.outer(time - 0.5, time - 0.5),
        )[rng.integers(4)]

    kernel = simple()
    for _ in range(rng.integers(1, 4)):
        kernel = kernel * simple() if rng.random() < 0.5 else kernel + simple()
    noisy = kernel + np.eye(steps) * _between(rng, 1e-4, 0.3)
    return _standard(np.linalg.cholesky(noisy) @ rng.normal(size=steps))


def dynamics(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Prey and predators, (steps, 2): the worlds' equations with parameters, clock, start and noise
    drawn anew.

    The equations are those of `m2lib.series.data`, which has their sources.
    """
    low, high = np.array(list(RECIPE.values())).T
    rates = RATES[rng.integers(len(RATES))]
    system: np.ndarray = np.asarray(rng.uniform(0.8 * low, 1.2 * high))
    time = rng.uniform(0, 50) * rng.integers(0, 2) + np.arange(steps) * rng.uniform(0.8, 5.2)
    values = solve_system(system, time, rates)
    if (
        len(values) < steps or not 1e-6 <= np.ptp(values, axis=0).min() < np.inf
    ):  # too fast to follow (nan), or at rest
        return dynamics(rng, steps)
    noise = _between(rng, 0.005, 0.25) if rng.random() < 0.5 else 0.0
    return np.maximum(0, values * rng.normal(1, noise, values.shape))


WEIGHTS = {components: 0.35, autoregression: 0.25, cycle: 0.2, counts: 0.1, process: 0.1}
"""The families of one variable, and how often each is drawn. All give (steps,), of mean 0 and
standard deviation 1."""
FAMILIES = (*(family.__name__ for family in WEIGHTS), dynamics.__name__)
"""The names of all, for `draw_series` without one."""


def _latent(rng: np.random.Generator, steps: int, without: str) -> np.ndarray:
    """A series (steps,) of one of the families but one."""
    families = [family for family in WEIGHTS if family.__name__ != without]
    weights = np.array([WEIGHTS[family] for family in families])
    return families[rng.choice(len(families), p=weights / weights.sum())](rng, steps)


def _disturbed(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Now and then with a shift of level, outliers [1]_, or few digits.

    References
    ----------
    .. [1] Chen and Liu, "Joint Estimation of Model Parameters and Outlier Effects in Time Series",
       Journal of the American Statistical Association 88, 1993.
    """
    spread, steps = values.std(axis=0), len(values)
    if rng.random() < 0.15:
        values[rng.integers(steps) :] += spread * rng.normal(0, 2, values.shape[1])
    if rng.random() < 0.15:
        values = values + spread * rng.normal(0, 5, values.shape) * (
            rng.random(values.shape) < 0.02
        )
    if rng.random() < 0.3:
        values = np.round(values / (spread + 1e-9), rng.integers(0, 3))
    return values


def _period(rng: np.random.Generator, steps: int) -> float:
    """Of a season: the calendar's, or any; at least two fit in."""
    known = [period for period in CALENDAR if 2 * period <= steps]
    return (
        float(rng.choice(known))
        if known and rng.random() < 0.6
        else _between(rng, 3, max(6, steps / 3))
    )


def _stable(rng: np.random.Generator, order: int) -> np.ndarray:
    """1 and the coefficients of a polynomial that a filter may divide by, by the steps of Durbin
    and Levinson."""
    coefficients = np.array([])
    for partial in rng.uniform(-0.95, 0.95, order):
        coefficients = np.append(coefficients - partial * coefficients[::-1], partial)
    return np.append(1, -coefficients)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """As often from 1 to 10 as from 10 to 100."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _standard(values: np.ndarray) -> np.ndarray:
    """With mean 0 and standard deviation 1; a constant becomes 0."""
    return (values - values.mean()) / (values.std() or 1.0)
