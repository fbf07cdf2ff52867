"""Training windows of synthetic series, generated anew for each step."""

import numpy as np

from m2lib.series import SHORTEST_CONTEXT, TABLES, TextFormat
from m2lib.training import Endless, encode_window, pad_windows
from study.synthetic.families import FAMILIES, draw_series, dynamics, log_uniform
from study.synthetic.shown import Showing

# Shares of synthetic series with 1, 2, ... 8 variables.
VARIABLE_SHARES = (0.55, 0.2, 0.08, 0.07, 0.025, 0.025, 0.025, 0.025)


def synthetic_windows(
    tokens: int,
    seed: int,
    text_format: TextFormat = TABLES,
    without: str = "",
    pair_share: float = 0.0,
    shown_share: float = 0.0,
) -> Endless:
    """Return windows of synthetic series, generated anew for each step.

    A series has one to eight variables, or as many as the format fixes. A step has at most `tokens`
    tokens in all its windows, which must have room for 20 steps: 640 for eight variables of three
    digits, 800 of four. `without` names a family of series to leave out. `shown_share` is the share
    of the steps whose series of one variable are shown as a forecaster shows them
    (`study.synthetic.shown`). `pair_share` is the share of the other steps that hold one long
    series of prey and predators instead: beside a `shown_share` of 0.7, a `pair_share` of 0.2 is 6%
    of all steps.

    Raises ValueError for too few tokens, for an unknown family, and for a share of series whose
    number of variables is not the one that the format fixes.
    """
    _check(tokens, text_format, without, pair_share, shown_share)

    def _windows(step: int) -> np.ndarray:
        """Return the windows of a training step, (windows, length)."""
        rng = np.random.default_rng([seed, step])
        # At a share of 0 no number is drawn, so that the series of a seed are the same as before
        # there were such shares.
        if shown_share > 0 and rng.random() < shown_share:
            return _shown_windows(rng, tokens, text_format.for_variables(1))
        is_pair = pair_share > 0 and rng.random() < pair_share
        variables = 2
        if not is_pair:
            variables = 1 + int(rng.choice(len(VARIABLE_SHARES), p=VARIABLE_SHARES))
        step_format = text_format.for_variables(variables)

        # All series of a training step have one length, drawn log-uniformly, and there are as many
        # as have room. One variable of three digits takes 4 tokens a time step, so 1024 tokens hold
        # 256 time steps: one series of 129 to 256, two of 86 to 128, up to twelve of 20. Only
        # numbers with fewer digits leave pads. A pair is alone: it takes more than half of them.
        most_steps = tokens // step_format.longest_step
        fewest_steps = most_steps // 2 + 1 if is_pair else 2 * SHORTEST_CONTEXT
        steps = int(log_uniform(rng, fewest_steps, most_steps + 1))

        rows: list[list[int]] = []
        while len(rows) < most_steps // steps:
            if is_pair:
                series = dynamics(rng, steps)
            else:
                series = draw_series(rng, steps, step_format.variables, without)
            horizon = int(rng.integers(1, steps - SHORTEST_CONTEXT + 1))
            ids = encode_window(series, horizon, step_format)
            if ids is not None:  # else it is flat, and another series takes its place
                rows.append(ids)
        return pad_windows(rows)

    return _windows


def _check(
    tokens: int, text_format: TextFormat, without: str, pair_share: float, shown_share: float
) -> None:
    """Raise ValueError for arguments of which `synthetic_windows` can make no windows."""
    if without and without not in FAMILIES:
        raise ValueError(f"no family {without!r}: choose one of {', '.join(FAMILIES)}")
    if pair_share and text_format.variables not in (0, 2):
        raise ValueError(f"pairs have two variables, and the format has {text_format.variables}")
    if shown_share and text_format.variables not in (0, 1):
        raise ValueError(f"shown series have one variable, not {text_format.variables}")
    largest = text_format.for_variables(text_format.variables or len(VARIABLE_SHARES))
    if tokens < 2 * SHORTEST_CONTEXT * largest.longest_step:
        steps = f"{2 * SHORTEST_CONTEXT} steps of {largest.variables} variables"
        raise ValueError(f"{tokens} tokens have no room for {steps}")


def _shown_windows(rng: np.random.Generator, tokens: int, text_format: TextFormat) -> np.ndarray:
    """Return the windows of a step whose series are all shown in one way."""
    most_steps = tokens // text_format.longest_step
    showing = Showing.draw(rng)
    # All windows of a step have room for the length that this way of showing usually gives. The
    # first series is drawn for its length alone.
    first_series = showing.draw_series(rng, most_steps)
    rows: list[list[int]] = []
    while len(rows) < most_steps // len(first_series):
        series = showing.draw_series(rng, most_steps)
        # Where a view would show nothing but a flat line, it shows more steps (see `Seen.of`). Such
        # a series has no room, and another one is drawn.
        if len(series) <= len(first_series):
            ids = encode_window(series, showing.ahead, text_format)
            if ids is not None:
                rows.append(ids)
    return pad_windows(rows)
