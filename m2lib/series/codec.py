"""The LLMTIME codec: two-variable series <-> text such as `952,1034;948,1029;`.

Values are divided by the series' own scale so that the 90th percentile of the context becomes 10.00, rounded to two
decimals and written in hundredths without the point: 9.52 -> `952`. *Scaled units* are these integers everywhere in
the project: 1000 is the context's 90th percentile. A step is `prey,predator;` and keeps its semicolon.

Source: Gruver et al., "Large Language Models Are Zero-Shot Time Series Forecasters" (LLMTIME), NeurIPS 2023.
"""

import re
from dataclasses import dataclass

import numpy as np

from m2lib.files import InputError

CODEC_VERSION = 1  # raise it when the text of any series, or the reading of any text, changes
CONTEXT_STEPS = 80  # steps the model sees
FORECAST_STEPS = 20  # steps it forecasts
VARIABLES = ("prey", "predator")
PAD = "<pad>"
ROUNDINGS = ("nearest", "published")
LARGEST = 9999  # the largest scaled value that is written: four digits
_FIELD = re.compile(r"[0-9]{1,6}")  # ASCII only: int() and isdigit() would also take `1_0`, `+5`, Arabic digits


@dataclass(frozen=True)
class Decoded:
    """A text read back: `values` (steps, 2) int64 in scaled units, and how many of them had to be `repairs`."""

    values: np.ndarray
    repairs: int


def scale_of(context: np.ndarray) -> np.ndarray:
    """The 90th percentile (linear interpolation, float64) of each series' context.

    context: (..., steps, 2) in physical units; only the context, so that nothing of the truth leaks into the prompt.
    Returns float64 (...): the physical value that scaled 1000 stands for.
    """
    context = np.asarray(context, dtype=np.float64)
    return np.percentile(context.reshape(*context.shape[:-2], -1), 90, axis=-1)


def to_integers(values: np.ndarray, scale: float | np.ndarray, rounding: str = "nearest") -> np.ndarray:
    """Scaled integers of physical values.

    values: (..., steps, 2), physical units. scale: a number, or (...) one per series.
    rounding: `nearest`, or `published`, which keeps the report's slip: after rounding to two decimals it multiplies
    by 100 and truncates, so that 1.15 -> 114.9999... -> 114. 6.3% of the data's values come out one too low.
    Returns int64 (..., steps, 2), scaled units.
    """
    if rounding not in ROUNDINGS:
        raise InputError(f"unknown rounding {rounding!r}: choose one of {', '.join(ROUNDINGS)}")
    scale = np.asarray(scale, dtype=np.float64)
    scaled = np.asarray(values, dtype=np.float64) / scale.reshape(*scale.shape, 1, 1) * 10
    hundredths = np.round(scaled, 2) * 100
    return (np.rint(hundredths) if rounding == "nearest" else np.trunc(hundredths)).astype(np.int64)


def unscale(integers: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """Physical units back from scaled integers (..., steps, 2), float64; `scale` as in `to_integers`."""
    scale = np.asarray(scale, dtype=np.float64)
    return np.asarray(integers, dtype=np.float64) / 1000 * scale.reshape(*scale.shape, 1, 1)


def encode(values: np.ndarray, scale: float, rounding: str = "nearest", series: int | None = None) -> str:
    """The text of one series: `prey,predator;` a step, the last semicolon kept.

    values: (steps, 2), physical units. `series` is only named in errors.
    Raises InputError for a value that is not finite, negative, or over 9999 once scaled, naming series and step.
    """
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = values / scale * 1000
    bad = ~(np.isfinite(scaled) & (scaled >= 0) & (scaled < LARGEST + 0.5))
    if bad.any():
        step, variable = (int(i) for i in np.argwhere(bad)[0])
        name = "" if series is None else f"series {series}, "
        raise InputError(
            f"{name}step {step}, {VARIABLES[variable]}: {values[step, variable]:g} is {scaled[step, variable]:.0f} "
            f"in scaled units, outside 0-{LARGEST}; the 90th percentile of the context should be 1000"
        )
    return format_steps(to_integers(values, scale, rounding))


def format_steps(integers: np.ndarray) -> str:
    """The text of scaled integers (steps, 2)."""
    return "".join(f"{prey},{predator};" for prey, predator in np.asarray(integers).tolist())


def decode(text: str, steps: int = FORECAST_STEPS, last: tuple[int, int] = (0, 0)) -> Decoded:
    """Read a model's text back, whatever it is: never raises, always `steps` steps.

    The text ends at the first `<pad>`. Steps end with `;`, fields with `,`; fields after the second are ignored. A
    field is read if it is 1 to 6 ASCII digits. Every value that is missing or unreadable repeats the last good value
    of its variable (at first `last`, in scaled units: pass the last step of the context) and counts as one repair; a
    missing step counts as two. A last step without its `;` is read as it stands.
    Returns values int64 (steps, 2) in scaled units, and the number of repairs, 0 to 2 * steps.
    """
    pieces = text.split(PAD, 1)[0].split(";")
    if not pieces[-1]:
        pieces.pop()
    current, repairs, rows = list(last), 0, []
    for step in range(steps):
        fields = pieces[step].split(",") if step < len(pieces) else []
        for variable in range(2):
            field = fields[variable] if variable < len(fields) else ""
            if _FIELD.fullmatch(field):
                current[variable] = int(field)
            else:
                repairs += 1
        rows.append(tuple(current))
    return Decoded(np.array(rows, dtype=np.int64).reshape(steps, 2), repairs)
