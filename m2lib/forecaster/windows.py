"""What fine-tuning reads: windows cut at random from a table's series, each written as a forecast would be."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from m2lib.files import InputError
from m2lib.forecaster.cells import SHORTEST
from m2lib.series import TextFormat
from m2lib.series.codec import format_steps

TRIES = 100  # cuts of a window that are tried before a table counts as flat


def cutter(
    values: Sequence[np.ndarray], shape: TextFormat, horizon: int, context: int, batch_size: int = 1, seed: int = 0
) -> Callable[[int], np.ndarray]:
    """What a step trains on, as a function of the step: windows cut at random, each written as a forecast would be.

    A window ends anywhere in a series, begins where the model's window begins, and takes its scale from all but its
    last `horizon` steps: what these hold beyond the text's range is written as the nearest number that there is.

    Parameters
    ----------
    values : sequence of ndarray of float, each of shape (steps, variables)
        The series to learn from, physical units.
    shape : TextFormat
        How they are written.
    horizon : int
        Steps that the adapter is to forecast.
    context : int
        Steps before them that the model reads at most, of `Sampler.window`.
    batch_size : int, optional
        Windows a step.
    seed : int, optional
        Of the cuts.

    Returns
    -------
    callable
        Gives int64 (batch_size, tokens) of a step from 0 on, pads on the right.
    """
    from m2lib.model import PAD_ID, text_to_ids

    longest = context + horizon
    # Series are drawn in proportion to the ends that they have, so that every window is as likely as any other.
    ends = np.array([len(series) - SHORTEST - horizon + 1 for series in values])

    def _window(rng: np.random.Generator) -> list[int]:
        for _ in range(TRIES):
            place = rng.choice(len(values), p=ends / ends.sum())
            end = SHORTEST + horizon + rng.integers(ends[place])
            piece = values[place][max(0, end - longest) : end]
            scaling = shape.scaling(piece[:-horizon])
            if scaling.exists:
                with suppress(InputError):  # flat but for rounding: in its scale what follows has no integer at all
                    integers = np.clip(shape.integers(piece, scaling), 0, shape.largest)
                    return text_to_ids(format_steps(integers))
        raise InputError(f"{TRIES} stretches of the table, drawn at random, are all flat; there is nothing to learn")

    def _windows(step: int) -> np.ndarray:
        rng = np.random.default_rng([seed, step])
        rows = [_window(rng) for _ in range(batch_size)]
        width = max(map(len, rows))
        return np.array([row + [PAD_ID] * (width - len(row)) for row in rows], dtype=np.int64)

    return _windows
