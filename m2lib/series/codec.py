"""Series as text, and back: `952,1034;948,1029;`.

A step is its variables' integers, a comma between two and a semicolon at its end. `TextFormat` says
how the series of any table are written. The method is LLMTIME's (Gruver et al., "Large Language
Models Are Zero-Shot Time Series Forecasters", NeurIPS, 2023).

The study's format is `STUDY`. Values are divided by the series' own scale so that the 90th
percentile of the context becomes 10.00, rounded to two decimals and written in hundredths without
the point: 9.52 -> `952`. *Scaled units* are these integers everywhere in the project. `scale_of`,
`to_integers`, `unscale`, `encode` and `decode` work in this format.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from m2lib.errors import InputError

CODEC_VERSION = 1
"""The version of the codec, which stands in every record.

Raise it when the text of any series, or the reading of any text, changes. Every record is then of
another run, and has to be made anew with `--fresh`. A new setting of `TextFormat` whose default
changes no text leaves it as it is.
"""
CONTEXT_STEPS = 80  # steps the model sees
FORECAST_STEPS = 20  # steps it forecasts
VARIABLES = ("prey", "predator")  # the study's, in the order in which a step holds them
FORMAT_FILE = "text_format.json"  # holds the text format of an adapter, in its folder
# Fills a text up to a length; the text proper ends at the first one. It is the first symbol of
# `m2lib.model.vocabulary`, and a test compares the two.
PAD = "<pad>"
MOST_VARIABLES = 8  # the most that a step can have
SHORTEST_CONTEXT = 10  # the fewest steps that the context of a table may have
ROUNDINGS = {"nearest": np.rint, "published": np.trunc}  # see `to_integers`
UNDERSHOOT = 1e-6
"""How far below zero an integrated series may end where zero is meant, in physical units.

It is LSODA's default absolute tolerance in scipy (seed 14, series 248: -6.7e-8). A format without
an offset takes so small a negative number for zero. One with an offset, which tables have where
numbers are negative, keeps the sign.
"""
# The settings that are newer than the first adapters. They are not written where they have their
# default, so that a training makes the very files whose hash its record has.
NEWER = ("spread",)
# ASCII digits only: int() and isdigit() would also take `1_0`, `+5` and Arabic digits.
_FIELD = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True)
class Decoded:
    """A text read back."""

    values: np.ndarray
    """int64, shape (steps, variables), scaled units."""
    repairs: int
    """How many values were missing or unreadable and were filled in, 0 to variables * steps."""


@dataclass(frozen=True)
class Scaling:
    """The straight line from physical to scaled values: (value - offset) / scale * unit + start.

    In the study's format the scale is the context's 90th percentile, without an offset: at a scale
    of 2.0 the value 0.23 becomes 0.23 / 2.0 * 1000 = 115. In `TABLES` a context from 0 to 12 has
    the offset -6 and the scale 18, so 0 becomes 6 / 18 * 500 = 166.7, and 12 becomes 500.

    Scale and offset have shape (..., 1, 1), or (..., 1, variables) where each variable has its own,
    so that NumPy puts them beside values of shape (..., steps, variables). A season or a trend that
    was put back gives each step its own: (..., steps, variables).
    """

    scale: np.ndarray
    """float64, physical units: the distance of two values whose scaled values differ by `unit`."""
    offset: np.ndarray
    """float64, physical units: the value that becomes `start`."""
    unit: int = 1000
    """The scaled value that stands for one scale; `TextFormat.unit`."""
    start: np.ndarray | int = 0
    """The scaled value that stands for the offset, which is read back exactly."""

    @property
    def exists(self) -> bool:
        """Whether series can be written with it.

        They cannot where a context has gaps. Nor can they where it is 0 up to the format's
        percentile, if the format has no offset, or where it is constant, if it has one.
        """
        finite = np.isfinite(self.scale) & np.isfinite(self.offset)
        return bool(np.all(finite & (self.scale > 0)))

    def relative(self, values: np.ndarray) -> np.ndarray:
        """Return the scaled values of physical ones, not yet rounded, in multiples of `unit`."""
        with np.errstate(all="ignore"):  # `encode` refuses what is not finite
            above_offset = np.asarray(values, dtype=np.float64) - self.offset
            return without_undershoot(above_offset) / self.scale + self.start / self.unit

    def physical(self, scaled: np.ndarray) -> np.ndarray:
        """Take scaled values back to physical ones."""
        above_start = np.asarray(scaled, dtype=np.float64) - self.start
        return above_start / self.unit * self.scale + self.offset


@dataclass(frozen=True)
class TextFormat:
    """How series are written.

    The format is stored with an adapter, because an adapter knows texts of its own format only. So
    a new setting comes last, has a default that changes no text, and is named in `NEWER`.

    A setting that is out of its range raises ValueError.
    """

    variables: int = 2
    """How many variables each step has, 1 to 8; 0 stands for any number, see
    `for_variables`."""
    digits: int = 4
    """How many digits the largest number has, 2 to 6: with four, scaled units go to 9999."""
    percentile: float = 90.0
    """Which percentile of the context becomes `unit`, above 0; 100 is the largest value."""
    offset: float = 0.0
    """How far below the context's smallest value scaled 0 lies, as a share of the context's range,
    10 at most. At 0, scaled 0 is physical 0 instead, and no value may be negative."""
    separate: bool = False
    """Whether each variable has a scale and an offset of its own; else all share one."""
    room: float = 10.0
    """The largest number that can be written, as a multiple of the context's percentile, above 1
    and 10 at most: less room leaves finer steps."""
    spread: float = 1.0
    """The factor by which samples are moved away from their median when they are read, above 0 and
    10 at most: more than 1 where a model is too sure."""

    def __post_init__(self) -> None:
        """Raise ValueError for a format that no series can have."""
        in_range = (
            0 <= self.variables <= MOST_VARIABLES
            and 2 <= self.digits <= 6
            and 0 < self.percentile <= 100
            and 0 <= self.offset <= 10
            and 1 < self.room <= 10
            and 0 < self.spread <= 10
        )
        if not in_range:
            raise ValueError(
                f"a text format has 0 to {MOST_VARIABLES} variables, numbers of 2 to 6 digits; "
                "percentile above 0, at most 100; offset 0 to 10; room above 1, spread above 0, "
                "at most 10"
            )

    def for_variables(self, variables: int) -> "TextFormat":
        """Return the format for series of `variables` variables, if it is one for any number."""
        if self.variables:
            return self
        return replace(self, variables=variables)

    @property
    def unit(self) -> int:
        """The scaled value of the context's percentile: 1000 with four digits and tenfold room."""
        return round(10**self.digits / self.room)

    @property
    def largest(self) -> int:
        """The largest number that is written: 9999 with four digits."""
        return 10**self.digits - 1

    @property
    def longest_step(self) -> int:
        """The most tokens that a step can have: 10 in `dddd,dddd;`."""
        return self.variables * (self.digits + 1)

    @property
    def _scaled_together(self) -> tuple[int, ...]:
        """The axes of (..., steps, variables) whose values share one scale and offset."""
        return (-2,) if self.separate else (-2, -1)

    def scaling(self, context: np.ndarray) -> Scaling:
        """Scale by the context alone, so that nothing of the truth leaks into the prompt.

        Parameters
        ----------
        context : ndarray of float, shape (..., steps, variables)
            One series or many, with at least one step. Physical units.

        Returns
        -------
        Scaling
            Not every context has one: see `Scaling.exists`.
        """
        context = np.asarray(context, dtype=np.float64)
        axes = self._scaled_together
        low = context.min(axes, keepdims=True)
        high = context.max(axes, keepdims=True)
        offset = np.zeros_like(low)
        if self.offset:
            offset = low - self.offset * (high - low)
        scale = np.percentile(context - offset, self.percentile, axis=axes, keepdims=True)
        return Scaling(scale, offset, self.unit)

    def reading(self, context: np.ndarray, rounding: str = "nearest") -> Scaling:
        """Return the scaling by which a forecast is read.

        Where a format has an offset, the context's smallest value is seldom written without
        rounding. In `TABLES` the 0 of a context from 0 to 12 becomes 166.7, which is written as
        167, and `scaling` reads 167 back as 0.012. A band that begins there would miss all true
        zeros. So forecasts are read by another straight line: the one that takes the two integers
        written for the context's smallest and largest value back to exactly these values.

        Parameters
        ----------
        context : ndarray of float, shape (..., steps, variables)
            Series that can be written. Physical units.
        rounding : {"nearest", "published"}, optional
            The rounding by which they are written, as in `to_integers`.

        Returns
        -------
        Scaling
            That of `scaling` where the format has no offset, because scaled 0 is physical 0 there.
        """
        scaling = self.scaling(context)
        if not self.offset:
            return scaling
        axes = self._scaled_together
        low = np.min(context, axes, keepdims=True).astype(np.float64)
        high = np.max(context, axes, keepdims=True).astype(np.float64)
        lowest = self.integers(low, scaling, rounding)
        highest = self.integers(high, scaling, rounding)
        scale = (high - low) / (highest - lowest) * self.unit
        return Scaling(scale, offset=low, unit=self.unit, start=lowest)

    def integers(
        self, values: np.ndarray, scaling: Scaling, rounding: str = "nearest"
    ) -> np.ndarray:
        """Return scaled integers of physical values (..., steps, variables); see `to_integers`."""
        # As in the report, a number is first rounded to its decimals, and only then loses its
        # point. Scale 2.0 is written as 10.00, so 0.23 is 1.15, and 1.15 * 100 is
        # 114.99999999999999: 115 by `nearest`, 114 by `published`.
        decimals = self.digits - 2
        with_point = scaling.relative(values) * (self.unit / 10**decimals)
        without_point = np.round(with_point, decimals) * 10**decimals
        return ROUNDINGS[rounding](without_point).astype(np.int64)

    def encode(
        self,
        values: np.ndarray,
        scaling: Scaling,
        rounding: str = "nearest",
        name: str | int | None = None,
    ) -> str:
        """Write one series as text, which ends with a semicolon.

        Parameters
        ----------
        values : ndarray of float, shape (steps, variables)
            Physical units.
        scaling : Scaling
            The scaling of this series.
        rounding : {"nearest", "published"}, optional
            As in `to_integers`.
        name : str or int, optional
            The name of the series in error messages.

        Returns
        -------
        str
            Such as `952,1034;948,1029;`.

        Raises
        ------
        InputError
            For a series of another shape or without a scale, and for a value that is not finite,
            below scaled 0, or too large once scaled; the message names series, step and variable.
        """
        label = series_label(name)
        shape = np.shape(values)
        if len(shape) != 2 or shape[1] != (self.variables or shape[1]):
            raise InputError(
                f"{label} has shape {shape}; give it as (steps, {self.variables or 'variables'})"
            )
        if not scaling.exists:
            raise InputError(
                f"{label} has no scale: what is read is constant, mostly 0, or not finite; drop it"
            )
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            scaled: np.ndarray = scaling.relative(values) * self.unit
        # 9999.5 would be written as 10000, which has a digit too many. NaN fails both comparisons.
        is_writable = (scaled >= 0) & (scaled < self.largest + 0.5)
        if not is_writable.all():
            step, variable = np.argwhere(~is_writable)[0]
            value = np.asarray(values)[step, variable]
            problem = f"{scaled[step, variable]:g} in scaled units, outside 0-{self.largest}"
            raise InputError(
                f"{label} has {value:g} at step {step}, variable {variable} (counted from 0), "
                f"which is {problem}; correct or drop the series"
            )

        text = ""
        for step in self.integers(values, scaling, rounding).tolist():
            text += ",".join(str(integer) for integer in step) + ";"
        return text

    def decode(self, text: str, steps: int, last: Sequence[int]) -> Decoded:
        """Read a model's text back, whatever it is: never raise, always return `steps` steps.

        The text ends at the first `<pad>`. Steps end with `;`, fields with `,`; fields after the
        last variable's are ignored. A field is read if it is 1 to 6 ASCII digits. Every value that
        is missing or unreadable repeats the last good value of its variable and counts as one
        repair; a missing step counts as one for each variable. A last step without its `;` is read
        as it stands.

        Parameters
        ----------
        text : str
            Any text.
        steps : int
            How many steps to read; what follows them is ignored.
        last : sequence of int
            The last good value of each variable before the text, in scaled units: pass the last
            step of the context.

        Returns
        -------
        Decoded
            The values in scaled units, and how many of them are repairs.
        """
        text = text.split(PAD, 1)[0]
        pieces = text.split(";", steps)  # at most steps + 1: the last one, the rest, is not read
        pieces += [""] * steps  # a missing step is read like an empty one
        repairs = 0
        current = list(last)
        rows = []
        for piece in pieces[:steps]:
            fields = piece.split(",", self.variables)
            fields += [""] * self.variables  # likewise a missing field
            for variable, field in enumerate(fields[: self.variables]):
                if _FIELD.fullmatch(field):
                    current[variable] = int(field)
                else:
                    repairs += 1  # and `current` keeps the last good value
            rows.append(tuple(current))  # a copy, because `current` goes on changing
        values = np.array(rows, dtype=np.int64).reshape(-1, self.variables)
        return Decoded(values, repairs)

    def settings(self) -> dict[str, int | float | bool]:
        """Return the fields by name: `TextFormat(**settings)` is the same format."""
        fields = asdict(self)
        for name in NEWER:
            if fields[name] == getattr(TextFormat, name):  # the default
                del fields[name]
        return fields


STUDY = TextFormat()  # how the study writes its series
TABLES = TextFormat(variables=0, digits=3, percentile=100.0, offset=0.5, separate=True, room=2.0)
"""How an adapter for any table writes. The context lies from 167 to 500, and a forecast may leave
it by half its range below and by one and a half times its range above."""


def series_label(name: str | int | None) -> str:
    """Name a series as messages do: `series 7`, or `the series` if it has no name.

    A table without a column of ids is one series, which is named "series".
    """
    return "the series" if name in (None, "series") else f"series {name}"


def without_undershoot(values: np.ndarray) -> np.ndarray:
    """Set values to zero that are below it by less than the integrator's tolerance."""
    undershot = (values < 0) & (values > -UNDERSHOOT)
    return np.where(undershot, values.dtype.type(0), values)


def scale_of(context: np.ndarray) -> np.ndarray:
    """Return the 90th percentile of each series' context, both variables together.

    Parameters
    ----------
    context : ndarray of float, shape (..., steps, 2)
        Physical units.

    Returns
    -------
    ndarray of float64, shape (...)
        The physical value that scaled 1000 stands for, by linear interpolation. It is not finite
        where the context is not, and 0 where the context is 0 nearly throughout; `encode` refuses
        both.
    """
    return STUDY.scaling(context).scale[..., 0, 0]


def to_integers(values: np.ndarray, scale: ArrayLike, rounding: str = "nearest") -> np.ndarray:
    """Return the scaled integers of physical values.

    Parameters
    ----------
    values : ndarray of float, shape (..., steps, 2)
        Physical units.
    scale : float or ndarray of float, shape (...)
        As `scale_of` gives it: one number, or one for each series. Physical units.
    rounding : {"nearest", "published"}, optional
        `published` keeps the report's slip: after rounding to two decimals it multiplies by 100 and
        truncates, so that 1.15 -> 114.9999... -> 114. 6.3% of the data's values come out one too
        low.

    Returns
    -------
    ndarray of int64, shape (..., steps, 2)
        Scaled units.
    """
    return STUDY.integers(values, _scaling(scale), rounding)


def unscale(integers: np.ndarray, scale: ArrayLike) -> np.ndarray:
    """Return physical values (..., steps, 2), float64, of scaled integers.

    Scales are given as in `to_integers`.
    """
    return _scaling(scale).physical(integers)


def encode(
    values: np.ndarray, scale: ArrayLike, rounding: str = "nearest", name: str | int | None = None
) -> str:
    """Write one series (steps, 2) at its scale, as `TextFormat.encode` does: `952,1034;948,...`."""
    return STUDY.encode(values, _scaling(scale), rounding, name)


def decode(text: str, steps: int = FORECAST_STEPS, last: tuple[int, int] = (0, 0)) -> Decoded:
    """Read a model's text back, whatever it is, by the rules of `TextFormat.decode`."""
    return STUDY.decode(text, steps, last)


def _scaling(scale: ArrayLike) -> Scaling:
    """Return the scaling of the study's format: by a scale, without an offset.

    Scales (50,) become (50, 1, 1), so that each meets all steps of its own series.
    """
    scales = np.asarray(scale, dtype=np.float64)[..., None, None]
    return Scaling(scale=scales, offset=np.zeros((1, 1)))
