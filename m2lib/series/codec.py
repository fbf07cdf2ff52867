"""The LLMTIME codec of the study: two-variable series <-> text such as `952,1034;948,1029;`.

Values are divided by the series' own scale so that the 90th percentile of the context becomes 10.00, rounded to two
decimals and written in hundredths without the point: 9.52 -> `952`. *Scaled units* are these integers everywhere in
the project: 1000 is the context's 90th percentile. A step is `prey,predator;` and keeps its semicolon. The method is
LLMTIME's (Gruver et al., "Large Language Models Are Zero-Shot Time Series Forecasters", NeurIPS, 2023). This is
`m2lib.series.textformat` at its defaults, for many series at once where that is faster.
"""

from typing import TYPE_CHECKING

import numpy as np

from m2lib.files import InputError
from m2lib.series import scaling
from m2lib.series.scaling import Scaling, is_scale, relative, rounded
from m2lib.series.textformat import VARIABLES, Decoded, TextFormat

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

CODEC_VERSION = 1  # raise it when the text of any series, or the reading of any text, changes
CONTEXT_STEPS = 80  # steps the model sees
FORECAST_STEPS = 20  # steps it forecasts
STUDY = TextFormat()


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
        return np.percentile(context.reshape(*series, steps * variables), STUDY.percentile, axis=-1)


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
    values = np.asarray(values, dtype=np.float64)
    return rounded(relative(values, _beside(values, scale)), rounding, STUDY.digits, values)


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
    return integers / STUDY.unit * _beside(integers, scale)


def _beside(values: np.ndarray, scale: "ArrayLike") -> np.ndarray:
    """The scale, checked and with two axes more, so that NumPy puts it beside the values.

    Scales of shape (50,) become (50, 1, 1): each meets all steps and both variables of its own series.
    """
    scale = np.asarray(scale, dtype=np.float64)
    if values.ndim < 2 or values.shape[-1] != STUDY.variables:
        raise InputError(f"values have shape {values.shape}; expected (..., steps, {STUDY.variables})")
    if scale.shape not in ((), values.shape[:-2]):
        raise InputError(f"scales have shape {scale.shape}, values {values.shape}; give a number, or one per series")
    bad = ~is_scale(scale)
    if bad.any():
        raise InputError(f"scale {scale[bad][0]:g} is not a finite number above 0; drop its series")
    return scale.reshape(*scale.shape, 1, 1)


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
    return scaling.unwritable(relative(values, scale)) | ~is_scale(scale)


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
        name = "the series" if series is None else f"series {series}"
        shapes = f"values of shape {values.shape} and a scale of shape {np.shape(scale)}"
        raise InputError(f"{name}: {shapes}; expected (steps, {len(VARIABLES)}) and a number")
    return STUDY.encode(values, Scaling(np.asarray(scale, dtype=np.float64), np.zeros(())), rounding, series, VARIABLES)


def decode(text: str, steps: int = FORECAST_STEPS, last: tuple[int, int] = (0, 0)) -> Decoded:
    """Read a model's text back, whatever it is: never raises, always `steps` steps.

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
        The values in scaled units, and how many of them are repairs, by the rules of `TextFormat.decode`.
    """
    return STUDY.decode(text, steps, last)
