"""Synthetic series without end, from which the network for any table learns.

Each family is a function of a random generator and a number of steps, and stands for a kind of real
series. `draw_series` takes one family or mixes several. No series of the study's data set, of a
scored world or of a real table is among them.

The order in which numbers are drawn decides every series, and so what a network learned from them.
"""

import numpy as np
from scipy.signal import lfilter

from m2lib.series.data import RECIPE, solve_system
from m2lib.series.equations import Rates, drifting, holling_three, lotka_volterra, predator_prey

# Lengths of a calendar's seasons, in steps; those of quarters, weekdays and months come most often.
CALENDAR = (4, 4, 5, 7, 7, 12, 12, 12, 13, 24, 52)
OF_DYNAMICS = 0.1  # the share of series that are prey or predators
BURN_IN = 200  # steps that are dropped at first: after them a filter has forgotten its start
LAG = 6  # the most steps by which a mixture follows its parts
# With one more, the numbers that are drawn would pick others of them, and no training could be made
# again.
RATES: tuple[Rates, ...] = (predator_prey, holling_three, lotka_volterra, drifting)
# A system of 500 steps takes some 5,000 evaluations of its rates. A few never come to an end,
# because their numbers overflow and the integrator's steps become ever smaller.
MOST_EVALUATIONS = 200_000


def draw_series(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Draw a synthetic series, float64 (steps,): predators, their prey, or a mixture."""
    if rng.random() < OF_DYNAMICS:
        values = dynamics(rng, steps)[:, rng.permutation(2)[0]]
    else:
        values = _mixture(rng, steps)
    return _disturb(rng, values)


def components(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Draw a season, a trend and a level, added or multiplied, with noise.

    These are the components of exponential smoothing [1]_.

    References
    ----------
    .. [1] Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, 2021,
       chapter 8.
    """
    time = np.arange(steps)
    period = _period(rng, steps)
    if period <= 52 and rng.random() < 0.4:  # a value of its own for each step of the season
        by_place = rng.standard_t(4, size=int(period))
        season = by_place[time % int(period)]
    else:  # a smooth season: the first sine alone is a wave, and further ones make it steeper
        orders = np.arange(1, rng.integers(2, 7))
        phases = rng.uniform(0, 2 * np.pi, (len(orders), 1))
        angles = 2 * np.pi * np.outer(orders, time) / period + phases
        normals = rng.normal(size=len(orders))
        falloff = rng.uniform(0.3, 1.5)
        heights = normals / orders**falloff
        season = heights @ np.sin(angles)

    # If it is added, a trend may be twenty times a season's height, as CO2's is; if it multiplies,
    # it may make a factor of e^(0.4 * 5), which is seven.
    is_multiplied = rng.random() < 0.5
    direction = rng.choice((-1, 0, 1), p=(0.3, 0.2, 0.5))
    slope = direction * log_uniform(rng, 0.5, 5 if is_multiplied else 20)
    damping = 1.0 if rng.random() < 0.6 else rng.uniform(0.9, 0.995)
    trend = slope / steps * np.cumsum(damping**time)

    level_spread = rng.choice((0.0, 0.05, 0.2))
    level = level_spread * rng.normal(size=steps).cumsum()
    noise_spread = log_uniform(rng, 0.01, 1.0)
    noise = noise_spread * rng.normal(size=steps)
    season = standard(season) * rng.choice((0.0, 0.5, 1.0, 2.0))
    if is_multiplied:
        return standard(np.exp(0.4 * (trend + level)) * (3 + season + noise))
    return standard(season + trend + level + noise)


def smoothing(rng: np.random.Generator, steps: int, season: int = 1) -> np.ndarray:
    """Draw a series of exponential smoothing (steps,), with a season of `season` steps.

    Level, trend and season each follow the errors, as in the innovations state space models [1]_.
    The trend may be damped; errors may have heavy tails. Half of the series are exponentials of
    such a series, so that season and errors multiply.

    References
    ----------
    .. [1] Hyndman, Koehler, Ord and Snyder, "Forecasting with Exponential Smoothing: The State
       Space Approach", 2008, chapter 2.
    """
    alpha = rng.uniform(0.01, 1.0)
    has_trend = rng.random() < 0.6
    slope_share = rng.uniform(0, 0.3)
    beta = alpha * rng.choice((0.0, slope_share)) * has_trend  # half of the slopes never change
    gamma = (1 - alpha) * log_uniform(rng, 0.001, 0.3)
    damping = 1.0 if rng.random() < 0.5 else rng.uniform(0.8, 0.99)
    degrees_of_freedom = rng.choice((4, 100), p=(0.3, 0.7))
    errors = rng.standard_t(degrees_of_freedom, size=steps)

    level = 0.0
    slope = rng.normal() * log_uniform(rng, 0.02, 0.5) * has_trend
    by_place = rng.normal(size=season) * log_uniform(rng, 0.3, 5)
    by_place -= by_place.mean()
    values = np.empty(steps)
    for step, error in enumerate(errors):
        place = step % season
        values[step] = level + damping * slope + by_place[place] + error
        level += damping * slope + alpha * error
        slope = damping * slope + beta * error
        # Without a season the one place would be a second level.
        by_place[place] += gamma * error if season > 1 else 0.0

    values = standard(values)
    if rng.random() < 0.5:
        return np.exp(log_uniform(rng, 0.05, 0.8) * values)
    # Most real series are above zero, some of them far above.
    lowest = rng.uniform(0, 4) if rng.random() < 0.8 else rng.uniform(-2, 0)
    return values - values.min() + lowest * np.ptp(values)


def autoregression(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Draw a seasonal ARIMA series [1]_ [2]_.

    It is stationary before it is summed up, because its partial autocorrelations are drawn, and not
    its coefficients.

    References
    ----------
    .. [1] Barndorff-Nielsen and Schou, "On the Parametrization of Autoregressive Models by Partial
       Autocorrelations", Journal of Multivariate Analysis 3, 1973.
    .. [2] Oreshkin et al., "Zero-shot Forecasting by Simulation Alone", arXiv 2601.00970, 2026.
    """
    period = int(_period(rng, steps))
    degrees_of_freedom = rng.choice((3, 10, 100))  # few give heavy tails
    noise = rng.standard_t(degrees_of_freedom, size=BURN_IN + steps)
    moving_average = _stable(rng, int(rng.integers(3)))
    autoregressive = _stable(rng, int(rng.integers(4)))
    values = lfilter(moving_average, autoregressive, noise)
    if rng.random() < 0.6:  # x_t = values_t + c x_(t - period), c from 0.5 to 0.99
        seasonal = np.zeros(period + 1)
        seasonal[0] = 1
        seasonal[period] = -(1 - log_uniform(rng, 0.01, 0.5))
        values = lfilter([1.0], seasonal, values)
    if rng.random() < 0.3:  # the I of ARIMA
        values = values.cumsum()
    return standard(values[BURN_IN:])


def cycle(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Draw a cycle whose height and phase wander [1]_, often with steep peaks.

    Numbers of animals and sunspots have such peaks.

    References
    ----------
    .. [1] Harvey, "Forecasting, Structural Time Series Models and the Kalman Filter", 1989, section
       2.3.
    """
    period = log_uniform(rng, 4, max(8, steps / 2))
    # At each step a complex number turns by 1 / period of a circle, shrinks a little, and is shaken
    # by a shock: z_t = turn z_(t-1) + shock_t. The cycle is its real part.
    shrinkage = 1 - log_uniform(rng, 0.003, 0.3) / period
    turn = shrinkage * np.exp(2j * np.pi / period)
    real_shocks, imaginary_shocks = rng.normal(size=(2, BURN_IN + steps))
    orbit = lfilter([1.0], [1.0, -turn], real_shocks + 1j * imaginary_shocks)
    wave = standard(orbit.real[BURN_IN:])

    steepness = rng.choice((0.0, 0.5, 1.0))
    if steepness:
        wave = standard(np.exp(steepness * wave))
    noise_spread = log_uniform(rng, 0.01, 0.5)
    return standard(wave + noise_spread * rng.normal(size=steps))


def counts(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Draw counts whose rate changes, some of them with zeros between, as demand has them [1]_.

    References
    ----------
    .. [1] Croston, "Forecasting and Stock Control for Intermittent Demands", Operational Research
       Quarterly 23, 1972.
    """
    families = (components, autoregression, cycle)
    family = families[rng.integers(len(families))]
    course = np.clip(family(rng, steps), -4, 4)
    mean_rate = log_uniform(rng, 0.3, 100)
    amplitude = rng.uniform(0.1, 0.8)
    rate = mean_rate * np.exp(amplitude * course)
    # Rates from a gamma distribution make the counts vary more than a Poisson distribution's do.
    shape = log_uniform(rng, 0.5, 100)
    varied_rate = rng.gamma(shape, rate / shape)  # its mean is `rate`
    numbers = rng.poisson(varied_rate)

    places = rng.random(steps)
    share_kept = 1.0 if rng.random() < 0.7 else rng.uniform(0.1, 0.8)
    return standard(np.where(places < share_kept, numbers, 0))


def process(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Draw from a Gaussian process whose kernel is made of two to four simple ones [1]_.

    They are added or multiplied.

    References
    ----------
    .. [1] Ansari et al., "Chronos: Learning the Language of Time Series", arXiv 2403.07815, section
       4.2.
    """
    time = np.arange(steps) / steps
    kernel = _simple_kernel(rng, time)
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.5:
            kernel = kernel * _simple_kernel(rng, time)
        else:
            kernel = kernel + _simple_kernel(rng, time)
    noise_variance = log_uniform(rng, 1e-4, 0.3)
    covariance = kernel + np.eye(steps) * noise_variance
    return standard(np.linalg.cholesky(covariance) @ rng.normal(size=steps))


def dynamics(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Draw prey and predators (steps, 2) that follow the worlds' equations.

    Parameters, sampling rate, start and noise are drawn anew. The equations are those of `RATES`,
    whose docstrings name the sources.
    """
    low, high = np.array(list(RECIPE.values())).T
    rates = RATES[rng.integers(len(RATES))]
    system: np.ndarray = np.asarray(rng.uniform(0.8 * low, 1.2 * high))
    first = rng.uniform(0, 50) * rng.integers(0, 2)  # times 0 or 1: half begin at time 0
    interval = rng.uniform(0.8, 5.2)
    time = first + np.arange(steps) * interval
    try:
        values = solve_system(system, time, _bounded(rates))
    except _NoEndError:
        return dynamics(rng, steps)

    # Systems that the integrator cannot follow (it stops early, or gives nan or infinity) and those
    # at rest are drawn again.
    complete = len(values) == steps
    if not (complete and 1e-6 <= np.ptp(values, axis=0).min() < np.inf):
        return dynamics(rng, steps)
    noise = log_uniform(rng, 0.005, 0.25) if rng.random() < 0.5 else 0.0
    return np.maximum(0, values * rng.normal(1, noise, values.shape))


class _NoEndError(Exception):
    """An integration takes more than MOST_EVALUATIONS."""


def _bounded(rates: Rates) -> Rates:
    """Return the same rates, which raise `_NoEndError` when they are asked for too often."""
    evaluations = 0

    def _counted(time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
        nonlocal evaluations
        evaluations += 1
        if evaluations > MOST_EVALUATIONS:
            raise _NoEndError
        return rates(time, state, *parameters)

    return _counted


WEIGHTS = {components: 0.35, autoregression: 0.25, cycle: 0.2, counts: 0.1, process: 0.1}
"""The families of mixtures, and how often each is drawn. All give (steps,), of mean 0 and standard
deviation 1."""


def _mixture(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Draw a weighted sum (steps,) of series of one to three families, most often of one."""
    families = list(WEIGHTS)
    chances = np.array(list(WEIGHTS.values()))
    parts = []
    for _ in range(rng.choice((1, 2, 3), p=(0.6, 0.3, 0.1))):
        family = families[rng.choice(len(families), p=chances / chances.sum())]
        parts.append(family(rng, steps + LAG))
    weights = rng.normal(size=len(parts))
    # Half of the mixtures do not lag: their lag is multiplied by 0.
    first = LAG - rng.integers(0, LAG + 1) * rng.integers(0, 2)
    return weights @ np.stack(parts)[:, first : first + steps]


def _simple_kernel(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Draw one of four kernels (steps, steps) over times (steps,) from 0 to 1."""
    steps = len(time)
    distance = np.abs(time[:, None] - time)
    # All parameters are drawn, whichever kernel it will be.
    length = log_uniform(rng, 0.02, 1.0)
    period = _period(rng, steps)
    smoothness = rng.uniform(0.5, 2)
    kind = rng.integers(4)

    if kind == 0:  # squared exponential
        return np.exp(-((distance / length) ** 2) / 2)
    if kind == 1:  # exponential
        return np.exp(-distance / length)
    if kind == 2:  # periodic
        waves = np.sin(np.pi * distance * steps / period)
        return np.exp(-2 * (waves / smoothness) ** 2)
    return 4 * np.outer(time - 0.5, time - 0.5)  # linear


def _disturb(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Give values (steps,) now and then a shift of level, outliers [1]_, or few digits.

    A shift is added in place.

    References
    ----------
    .. [1] Chen and Liu, "Joint Estimation of Model Parameters and Outlier Effects in Time Series",
       Journal of the American Statistical Association 88, 1993.
    """
    steps = len(values)
    spread = values.std()
    if rng.random() < 0.15:
        first = rng.integers(steps)
        values[first:] += spread * rng.normal(0, 2)
    if rng.random() < 0.15:
        deviations = spread * rng.normal(0, 5, steps)
        is_outlier = rng.random(steps) < 0.02
        values = values + deviations * is_outlier  # 0 where there is no outlier
    if rng.random() < 0.3:
        decimals = rng.integers(0, 3)
        values = np.round(values / (spread + 1e-9), decimals)
    return values


def _period(rng: np.random.Generator, steps: int) -> float:
    """Draw the period of a season, in steps: one of the calendar's that fits in twice, or any."""
    calendar = [period for period in CALENDAR if 2 * period <= steps]
    if calendar and rng.random() < 0.6:
        return float(rng.choice(calendar))
    return log_uniform(rng, 3, max(6, steps / 3))


def _stable(rng: np.random.Generator, order: int) -> np.ndarray:
    """Draw a stable polynomial (order + 1,) 1, -c_1, -c_2, ..., by which a filter may divide.

    Its coefficients come from partial autocorrelations between -1 and 1 by the Durbin-Levinson
    recursion, which makes the filter x_t = c_1 x_(t-1) + c_2 x_(t-2) + ... + noise stationary.
    """
    coefficients = np.array([])
    # With p, [a] becomes [a - p a, p], and [a, b] becomes [a - p b, b - p a, p].
    for partial_correlation in rng.uniform(-0.95, 0.95, order):
        coefficients = np.append(
            coefficients - partial_correlation * coefficients[::-1], partial_correlation
        )
    return np.append(1, -coefficients)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a log-uniform number: of 1 to 100, as often from 1 to 10 as from 10 to 100."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def standard(values: np.ndarray) -> np.ndarray:
    """Shift and scale values to mean 0 and standard deviation 1; a constant becomes 0."""
    return (values - values.mean()) / (values.std() or 1.0)
