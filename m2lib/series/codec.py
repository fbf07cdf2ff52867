"""The LLMTIME codec: two-variable series <-> text such as `952,1034;948,1029;`.

Values are divided by the series' own scale so that the 90th percentile of the context becomes 10.00, rounded to two
decimals and written in hundredths without the point: 9.52 -> `952`. *Scaled units* are these integers everywhere in
the project: 1000 is the context's 90th percentile. A step is `prey,predator;` and keeps its semicolon. The method is
LLMTIME's [1]_.

References
----------
.. [1] Gruver et al., "Large Language Models Are Zero-Shot Time Series Forecasters" (LLMTIME), NeurIPS, 2023.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2lib.files import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

CODEC_VERSION = 1  # raise it when the text of any series, or the reading of any text, changes
CONTEXT_STEPS = 80  # steps the model sees
FORECAST_STEPS = 20  # steps it forecasts
VARIABLES = ("prey", "predator")  # in the order in which a step holds them
PAD = "<pad>"  # what fills a text up; the text proper ends at the first
ROUNDINGS = ("nearest", "published")  # see `to_integers`
LARGEST = 9999  # the largest scaled value that is written: four digits
# Physical units: LSODA's default absolute tolerance in scipy. By less than this it may end below zero where zero is
# meant (seed 14, series 248: -6.7e-8).
UNDERSHOOT = 1e-6
_FIELD = re.compile(r"[0-9]{1,6}")  # ASCII only: int() and isdigit() would also take `1_0`, `+5`, Arabic digits


@dataclass(frozen=True)
class Decoded:
    """A text read back."""

    values: np.ndarray
    """int64, shape (steps, 2), scaled units: (prey, predator) of each step."""
    repairs: int
    """How many of the values were missing or unreadable and had to be filled in, 0 to 2 * steps."""


def scale_of(context: np.ndarray) -> np.ndarray:
    """The 90th percentile of each series' context, both variables together.

    Only the context is read, so that nothing of the truth leaks into the prompt.

    Parameters
    ----------
    context : ndarray of float, shape (..., steps, 2)
        Physical units.

    Returns
    -------
    ndarray of float64, shape (...)
        The physical value that scaled 1000 stands for (percentile by linear interpolation, in float64). Not finite
        where the context is not, and 0 where it is 0 nearly throughout: `encode` refuses both.

    Raises
    ------
    InputError
        For a context without steps.
    """
    context = np.asarray(context, dtype=np.float64)
    if context.ndim < 2 or 0 in context.shape[-2:]:
        raise InputError(f"a context of shape {context.shape} has no scale; expected (..., steps, 2), one step or more")
    *series, steps, variables = context.shape
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return np.percentile(context.reshape(*series, steps * variables), 90, axis=-1)


def without_undershoot(values: np.ndarray) -> np.ndarray:
    """Zero for what is below zero by less than the integrator's tolerance, all else as it is.

    Parameters
    ----------
    values : ndarray of float
        Physical units.

    Returns
    -------
    ndarray of float
        The same shape and type.
    """
    return np.where((values < 0) & (values > -UNDERSHOOT), values.dtype.type(0), values)


def to_integers(values: np.ndarray, scale: "ArrayLike", rounding: str = "nearest") -> np.ndarray:
    """Scaled integers of physical values.

    Parameters
    ----------
    values : ndarray of float, shape (..., steps, 2)
        Physical units.
    scale : float or ndarray of float, shape (...)
        As `scale_of` gives it: a number, or one per series. Physical units.
    rounding : {"nearest", "published"}, optional
        `published` keeps the report's slip: after rounding to two decimals it multiplies by 100 and truncates, so
        that 1.15 -> 114.9999... -> 114. 6.3% of the data's values come out one too low.

    Returns
    -------
    ndarray of int64, shape (..., steps, 2)
        Scaled units.

    Raises
    ------
    InputError
        For an unknown rounding, shapes that do not fit, a scale that is not a finite number above 0, and a value that
        is not finite once scaled.
    """
    if rounding not in ROUNDINGS:
        raise InputError(f"unknown rounding {rounding!r}: choose one of {', '.join(ROUNDINGS)}")
    values = np.asarray(values, dtype=np.float64)
    # 0.23 at scale 2.0 is 1.15, and 1.15 * 100 is 114.99999999999999: 115 by `nearest`, 114 by `published`.
    with np.errstate(over="ignore"):  # reported below
        scaled = without_undershoot(values) / _beside(values, scale) * 10
        hundredths = np.round(scaled, 2) * 100
    fits = np.abs(hundredths) < 2**63  # else there is no int64 of it, and astype would make up a number; NaN is not
    if not fits.all():
        index = tuple(np.argwhere(~fits)[0].tolist())
        raise InputError(f"values{list(index)} is {values[index]:g}, which has no scaled integer; correct or drop it")
    return (np.rint(hundredths) if rounding == "nearest" else np.trunc(hundredths)).astype(np.int64)


def unscale(integers: np.ndarray, scale: "ArrayLike") -> np.ndarray:
    """Physical values back from scaled integers.

    Parameters
    ----------
    integers : ndarray of int, shape (..., steps, 2)
        Scaled units.
    scale : float or ndarray of float, shape (...)
        As in `to_integers`.

    Returns
    -------
    ndarray of float64, shape (..., steps, 2)
        Physical units.

    Raises
    ------
    InputError
        For shapes that do not fit, and a scale that is not a finite number above 0.
    """
    integers = np.asarray(integers, dtype=np.float64)
    return integers / 1000 * _beside(integers, scale)


def _beside(values: np.ndarray, scale: "ArrayLike") -> np.ndarray:
    """The scale, checked and with two axes more, so that NumPy puts it beside the values.

    Scales of shape (50,) become (50, 1, 1): each meets all steps and both variables of its own series.
    """
    scale = np.asarray(scale, dtype=np.float64)
    if values.ndim < 2 or values.shape[-1] != len(VARIABLES):
        raise InputError(f"values have shape {values.shape}; expected (..., steps, {len(VARIABLES)})")
    if scale.shape not in ((), values.shape[:-2]):
        raise InputError(f"scales have shape {scale.shape}, values {values.shape}; give a number, or one per series")
    bad = ~_is_scale(scale)
    if bad.any():
        raise InputError(f"scale {scale[bad][0]:g} is not a finite number above 0; drop its series")
    return scale.reshape(*scale.shape, 1, 1)


def _is_scale(scale: "ArrayLike") -> np.ndarray:
    return np.isfinite(scale) & (np.asarray(scale) > 0)


def unwritable(values: np.ndarray, scale: "ArrayLike") -> np.ndarray:
    """Where values cannot be written: not finite, negative, over 9999 once scaled, or without a scale.

    Parameters
    ----------
    values : ndarray of float, shape (..., steps, 2)
        Physical units.
    scale : float or ndarray of float, shape (...)
        As in `to_integers`, but any numbers.

    Returns
    -------
    ndarray of bool, shape (..., steps, 2)
        True for each value that `encode` refuses; for a whole series whose scale is none.
    """
    scale = np.asarray(scale, dtype=np.float64)[..., None, None]
    with np.errstate(all="ignore"):  # what is not finite compares as False
        scaled = without_undershoot(np.asarray(values, dtype=np.float64)) / scale * 1000
        return ~(_is_scale(scale) & (scaled >= 0) & (scaled < LARGEST + 0.5))  # 9999.5 would be written as 10000


def encode(values: np.ndarray, scale: float, rounding: str = "nearest", series: int | None = None) -> str:
    """The text of one series: `prey,predator;` a step, the last semicolon kept.

    Parameters
    ----------
    values : ndarray of float, shape (steps, 2)
        Physical units.
    scale : float
        The series' scale, see `scale_of`. Physical units.
    rounding : {"nearest", "published"}, optional
        As in `to_integers`.
    series : int, optional
        The series' id, only to be named in errors.

    Returns
    -------
    str
        Such as `952,1034;948,1029;`.

    Raises
    ------
    InputError
        For a value that is not finite, negative, or over 9999 once scaled, naming series, step and variable; for a
        series without a scale; for another shape.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(VARIABLES) or np.ndim(scale):
        shapes = f"values of shape {values.shape} and a scale of shape {np.shape(scale)}"
        raise InputError(f"{_place(series)}: {shapes}; expected (steps, {len(VARIABLES)}) and a number")
    bad = unwritable(values, scale)
    if bad.any() or not _is_scale(scale):
        raise InputError(_first_fault(values, scale, bad, series))
    return format_steps(to_integers(values, scale, rounding))


def _first_fault(values: np.ndarray, scale: float, bad: np.ndarray, series: int | None) -> str:
    """What keeps a series from being written, in one line."""
    if not _is_scale(scale):  # then all values are bad; name one that is so by itself and may have spoilt the scale
        bad = ~(np.isfinite(values) & (values > -UNDERSHOOT))
    if not bad.any():
        percentile = f"the 90th percentile of its first {CONTEXT_STEPS} steps is {scale:g}"
        return f"{_place(series)}: {percentile}, so it has no scale; drop it"
    step, variable = np.argwhere(bad)[0].tolist()
    value, place = values[step, variable], _place(series, f"step {step}", VARIABLES[variable])
    if not np.isfinite(value) or value < 0:
        return f"{place}: {value:g} is {'negative' if np.isfinite(value) else 'not finite'}; correct or drop the series"
    with np.errstate(over="ignore"):
        scaled = value / scale * 1000
    return (
        f"{place}: {value:g} is {scaled:.0f} in scaled units, outside 0-{LARGEST}; "
        "the 90th percentile of the context should be 1000"
    )


def _place(series: int | None, *within: str) -> str:
    """Such as `series 7, step 3, prey`; a series without a name goes unnamed."""
    name = "the series" if series is None else f"series {series}"
    return ", ".join(within if within and series is None else (name, *within))


def format_steps(integers: np.ndarray) -> str:
    """The text of scaled integers.

    Parameters
    ----------
    integers : ndarray of int, shape (steps, 2)
        Scaled units.

    Returns
    -------
    str
        [[952, 1034], [948, 1029]] gives `952,1034;948,1029;`.
    """
    return "".join(f"{prey},{predator};" for prey, predator in np.asarray(integers).tolist())


def decode(text: str, steps: int = FORECAST_STEPS, last: tuple[int, int] = (0, 0)) -> Decoded:
    """Read a model's text back, whatever it is: never raises, always `steps` steps.

    The text ends at the first `<pad>`. Steps end with `;`, fields with `,`; fields after the second are ignored. A
    field is read if it is 1 to 6 ASCII digits. Every value that is missing or unreadable repeats the last good value
    of its variable and counts as one repair; a missing step counts as two. A last step without its `;` is read as it
    stands.

    Parameters
    ----------
    text : str
        Any text.
    steps : int, optional
        How many steps to read; what follows them is ignored.
    last : tuple of int, optional
        The last good values (prey, predator) before the text, in scaled units: pass the last step of the context.

    Returns
    -------
    Decoded
        The values in scaled units, and how many of them are repairs.
    """
    pieces = text.split(PAD, 1)[0].split(";", steps)  # the rest, in one piece, is not read
    if not pieces[-1]:  # `1,2;3,4;` splits into `1,2`, `3,4` and an empty rest, which is no step
        pieces.pop()
    current, repairs, rows = list(last), 0, []
    for step in range(steps):
        fields = pieces[step].split(",", 2) if step < len(pieces) else []
        for variable in range(2):
            field = fields[variable] if variable < len(fields) else ""
            if _FIELD.fullmatch(field):
                current[variable] = int(field)
            else:
                repairs += 1  # and `current` keeps the last good value
        rows.append(tuple(current))  # a copy, for `current` goes on changing
    return Decoded(np.array(rows, dtype=np.int64).reshape(-1, 2), repairs)
