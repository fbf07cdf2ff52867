"""Windows of tokens for training: cut from texts or series, and batched."""

from collections.abc import Callable, Sequence

import numpy as np

from m2lib.errors import InputError
from m2lib.files import short_hash
from m2lib.model import PAD_ID, text_to_ids
from m2lib.series import SHORTEST_CONTEXT, TextFormat
from m2lib.training.config import TrainConfig

Endless = Callable[[int], np.ndarray]
"""A function from a step to that step's windows, int64 (n, length)."""
Windows = np.ndarray | Endless
"""Where a run's windows come from: an array of all of them, or a function of the step."""
MOST_TRIES = 100  # stretches of a table that are tried before it counts as flat


def make_windows(texts: list[list[int]], length: int) -> np.ndarray:
    """Cut the token ids of each text into windows that overlap by half: int64 (windows, length).

    A window starts every length // 2 tokens, until one reaches the text's end; a last one that is
    shorter is padded on the right. The windows of the first text come first.
    """
    # A text of 1100 tokens and windows of 512: range(0, 844, 256) starts them at 0, 256, 512 and
    # 768, and the last holds 332 tokens and 180 pads. One of 1024: range(0, 768, 256), because the
    # window from 512 ends with the text, and one from 768 would only repeat its second half. One of
    # 200: max(1, -56) leaves the start 0.
    stride = length // 2
    shared = length - stride  # tokens that a window shares with the next one
    rows = []
    for ids in texts:
        for start in range(0, max(1, len(ids) - shared), stride):
            rows.append(ids[start : start + length])
    return pad_windows(rows, length)


def random_windows(
    values: Sequence[np.ndarray],
    text_format: TextFormat,
    horizon: int,
    context_length: int,
    batch_size: int = 1,
    seed: int = 0,
) -> Endless:
    """Cut windows at random from series: `batch_size` new ones for each step.

    A window ends anywhere in a series, and is scaled as a forecast of its last steps would be.

    Parameters
    ----------
    values : sequence of ndarray of float, each of shape (steps, variables)
        The series, without their season, each of at least `SHORTEST_CONTEXT` + `horizon` steps.
        Physical units.
    text_format : TextFormat
        How windows are written.
    horizon : int
        The last steps of a window, which a forecast would have.
    context_length : int
        The most steps before these.
    batch_size : int, optional
        Windows of a step.
    seed : int, optional
        The seed; a step's windows depend on nothing but it and the step.

    Returns
    -------
    callable
        From a step to its windows, int64 (batch_size, length). It raises InputError where a hundred
        stretches of the series, one after the other, are all flat.
    """
    # How many ends a window of each series can have: one of 40 steps, at a horizon of 5, those from
    # 15 = SHORTEST_CONTEXT + 5 to 40, which are 26. A series is drawn in proportion to that number,
    # so that every window is as likely as any other.
    num_ends = np.array([len(series) - SHORTEST_CONTEXT - horizon + 1 for series in values])
    chances = num_ends / num_ends.sum()

    def one_window(rng: np.random.Generator) -> list[int]:
        for _ in range(MOST_TRIES):
            number = rng.choice(len(values), p=chances)
            end = SHORTEST_CONTEXT + horizon + rng.integers(num_ends[number])
            start = max(0, end - context_length - horizon)
            ids = encode_window(values[number][start:end], horizon, text_format)
            if ids is not None:
                return ids
        raise InputError(
            f"{MOST_TRIES} stretches of the table, drawn at random, are all flat; "
            "there is nothing to learn"
        )

    def windows_of(step: int) -> np.ndarray:
        rng = np.random.default_rng([seed, step])
        return pad_windows([one_window(rng) for _ in range(batch_size)])

    return windows_of


def encode_window(values: np.ndarray, horizon: int, text_format: TextFormat) -> list[int] | None:
    """Encode a series as token ids, scaled as a forecast of its last `horizon` steps would be.

    The scale comes from the steps before those; None where they have none because they are flat.
    Values beyond the text's range are clipped to it.
    """
    scaling = text_format.scaling(values[:-horizon])
    if not scaling.exists:
        return None
    # Scaled (2, 1) gives physical (2, variables), the ends of what each variable can have.
    lowest, highest = scaling.physical(np.array([[0], [text_format.largest]]))
    return text_to_ids(text_format.encode(np.clip(values, lowest, highest), scaling))


def pad_windows(rows: list[list[int]], width: int = 0) -> np.ndarray:
    """Pad rows of token ids on the right: int64 (rows, width), by default as the longest."""
    width = width or max(map(len, rows))
    return np.array([row + [PAD_ID] * (width - len(row)) for row in rows], dtype=np.int64)


def batch_of(step: int, windows: Windows, config: TrainConfig) -> np.ndarray:
    """Return one step's windows (batch_size, length); fewer rows where there are fewer windows.

    Each epoch goes through the windows in a new random order. It depends on seed and epoch alone,
    so a run that is resumed needs to know no more than its step. Windows that are made for each
    step are taken as they come, whatever the config's batch size.
    """
    if callable(windows):
        return windows(step)
    # Five windows, two a step: an epoch has 5 // 2 = 2 steps, and one window waits for another
    # epoch. Step 3 is divmod(3, 2) = epoch 1, place 1: the third and fourth of epoch 1's order.
    size = min(config.batch_size, len(windows))
    epoch, place = divmod(step, len(windows) // size)
    order = np.random.default_rng([config.seed, epoch]).permutation(len(windows))
    return windows[order[place * size : (place + 1) * size]]


def windows_hash(windows: Windows, config: TrainConfig) -> str:
    """Return 16 hex digits of the first step's windows, which tell them from those of other data.

    The other steps are left out, because windows that are made for each step have no end.
    """
    return short_hash(batch_of(0, windows, config).tobytes())
