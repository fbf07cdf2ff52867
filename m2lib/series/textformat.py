"""Series as text: how a step is written, and the straight line between physical values and the integers in the text.

A step is its variables' integers, a comma between two and a semicolon at the end: `952,1034;` of two variables, `952;`
of one. What the integers stand for is a matter of each series' own context, from which `TextFormat.scaling` is taken.
The method is LLMTIME's [1]_; the study's own format, two variables of four digits, is `TextFormat()`.

References
----------
.. [1] Gruver et al., "Large Language Models Are Zero-Shot Time Series Forecasters" (LLMTIME), NeurIPS, 2023.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from m2lib.files import InputError

PAD = "<pad>"  # what fills a text up; the text proper ends at the first
ROUNDINGS = ("nearest", "published")  # see `m2lib.series.codec.to_integers`
VARIABLES = ("prey", "predator")  # the study's, in the order in which a step holds them
MOST_VARIABLES = 8
# Physical units: LSODA's default absolute tolerance in scipy. By less than this it may end below zero where zero is
# meant (seed 14, series 248: -6.7e-8).
UNDERSHOOT = 1e-6
_FIELD = re.compile(r"[0-9]{1,6}")  # ASCII only: int() and isdigit() would also take `1_0`, `+5`, Arabic digits


@dataclass(frozen=True)
class Decoded:
    """A text read back."""

    values: np.ndarray
    """int64, shape (steps, variables), scaled units."""
    repairs: int
    """How many of the values were missing or unreadable and had to be filled in, 0 to variables * steps."""


@dataclass(frozen=True)
class Scaling:
    """The straight line of one series: scaled = (value - offset) / scale * unit."""

    scale: np.ndarray
    """float64, shape () or (variables,): the physical size of a scaled unit's worth, 1000 with four digits."""
    offset: np.ndarray
    """float64, shape () or (variables,): the physical value of scaled 0."""
    unit: int = 1000
    """Of the text format."""

    @property
    def exists(self) -> bool:
        """Whether a series can be written by it.

        Returns
        -------
        bool
            False where a scale is not a finite number above 0, or an offset is not finite.
        """
        return bool(np.all(is_scale(self.scale)) and np.all(np.isfinite(self.offset)))

    def physical(self, scaled: np.ndarray) -> np.ndarray:
        """Physical values back from scaled ones.

        Parameters
        ----------
        scaled : ndarray, shape (..., steps, variables)
            Scaled units, of this series.

        Returns
        -------
        ndarray of float64, shape (..., steps, variables)
            Physical units.
        """
        return np.asarray(scaled, dtype=np.float64) / self.unit * self.scale + self.offset


@dataclass(frozen=True)
class TextFormat:
    """How series are written. It is stored with an adapter, which knows texts of its own format only."""

    variables: int = 2
    """How many each step has, 1 to 8."""
    digits: int = 4
    """Of the largest number, 2 to 6: with four, scaled units go to 9999."""
    percentile: float = 90.0
    """Which percentile of the context becomes scaled 1000 (with four digits), above 0; 100 is the largest value."""
    offset: float = 0.0
    """How far below the context's smallest value scaled 0 lies, as a share of its range; at 0 it is physical 0 instead,
    and no value may be negative."""
    separate: bool = False
    """Whether each variable has a scale and an offset of its own; else all share one."""

    def __post_init__(self) -> None:
        """Raise ValueError for a format that no series can have."""
        if not (1 <= self.variables <= MOST_VARIABLES and 2 <= self.digits <= 6):
            raise ValueError(f"a text format has 1 to {MOST_VARIABLES} variables, and numbers of 2 to 6 digits")
        if not (0 < self.percentile <= 100 and 0 <= self.offset <= 10):
            raise ValueError("the percentile of a text format is above 0 and at most 100, its offset from 0 to 10")

    @property
    def unit(self) -> int:
        """The scaled value of the context's percentile.

        Returns
        -------
        int
            1000 with four digits.
        """
        return 10 ** (self.digits - 1)

    @property
    def largest(self) -> int:
        """The largest number that is written.

        Returns
        -------
        int
            9999 with four digits.
        """
        return 10**self.digits - 1

    @property
    def longest_step(self) -> int:
        """How many tokens a step has whose numbers have all their digits.

        Returns
        -------
        int
            10 of two variables with four digits, as in `dddd,dddd;`.
        """
        return self.variables * (self.digits + 1)

    def scaling(self, context: np.ndarray) -> Scaling:
        """The straight line that a series' context sets.

        Only the context is read, so that nothing of the truth leaks into the prompt.

        Parameters
        ----------
        context : ndarray of float, shape (steps, variables)
            Physical units, one step or more.

        Returns
        -------
        Scaling
            It need not exist: not of a context that is not finite, or zero throughout, or constant above an offset.

        Raises
        ------
        InputError
            For another shape.
        """
        context = np.asarray(context, dtype=np.float64)
        if context.ndim != 2 or not len(context) or context.shape[1] != self.variables:
            raise InputError(f"a context of shape {context.shape} has no scale; expected (steps, {self.variables})")
        axis = 0 if self.separate else None
        with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
            low, high = context.min(axis), context.max(axis)
            offset = low - self.offset * (high - low) if self.offset else np.zeros_like(low)
            return Scaling(np.percentile(context - offset, self.percentile, axis=axis), offset, self.unit)

    def integers(self, values: np.ndarray, scaling: Scaling, rounding: str = "nearest") -> np.ndarray:
        """Scaled integers of physical values.

        Parameters
        ----------
        values : ndarray of float, shape (..., steps, variables)
            Physical units, of one series.
        scaling : Scaling
            The series', and there is one.
        rounding : {"nearest", "published"}, optional
            As in `m2lib.series.codec.to_integers`.

        Returns
        -------
        ndarray of int64, shape (..., steps, variables)
            Scaled units.

        Raises
        ------
        InputError
            For a value that has no scaled integer.
        """
        return rounded(relative(values, scaling.scale, scaling.offset), rounding, self.digits, values)

    def encode(
        self,
        values: np.ndarray,
        scaling: Scaling,
        rounding: str = "nearest",
        series: str | int | None = None,
        names: Sequence[str] = (),
    ) -> str:
        """The text of one series, the last semicolon kept.

        Parameters
        ----------
        values : ndarray of float, shape (steps, variables)
            Physical units.
        scaling : Scaling
            The series'.
        rounding : {"nearest", "published"}, optional
            As in `m2lib.series.codec.to_integers`.
        series : str or int, optional
            The series' name, only to be named in errors.
        names : sequence of str, optional
            The variables' names, likewise.

        Returns
        -------
        str
            Such as `952,1034;948,1029;`.

        Raises
        ------
        InputError
            For a value that is not finite, below scaled 0, or too large once scaled, naming series, step and variable;
            for a series without a scale.
        """
        values = np.asarray(values, dtype=np.float64)
        bad = unwritable(relative(values, scaling.scale, scaling.offset), self.digits)
        if bad.any() or not scaling.exists:
            raise InputError(self._first_fault(values, scaling, bad, series, names))
        return format_steps(self.integers(values, scaling, rounding))

    def decode(self, text: str, steps: int, last: Sequence[int]) -> Decoded:
        """Read a model's text back, whatever it is: never raises, always `steps` steps.

        The text ends at the first `<pad>`. Steps end with `;`, fields with `,`; fields after the last variable's are
        ignored. A field is read if it is 1 to 6 ASCII digits. Every value that is missing or unreadable repeats the
        last good value of its variable and counts as one repair; a missing step counts as one for each variable. A
        last step without its `;` is read as it stands.

        Parameters
        ----------
        text : str
            Any text.
        steps : int
            How many steps to read; what follows them is ignored.
        last : sequence of int
            The last good value of each variable before the text, in scaled units: pass the last step of the context.

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
            fields = pieces[step].split(",", self.variables) if step < len(pieces) else []
            for variable in range(self.variables):
                field = fields[variable] if variable < len(fields) else ""
                if _FIELD.fullmatch(field):
                    current[variable] = int(field)
                else:
                    repairs += 1  # and `current` keeps the last good value
            rows.append(tuple(current))  # a copy, for `current` goes on changing
        return Decoded(np.array(rows, dtype=np.int64).reshape(-1, self.variables), repairs)

    def settings(self) -> dict[str, int | float | bool]:
        """What says it all, as it is stored.

        Returns
        -------
        dict of str to int, float or bool
            A value for each field, by name; `TextFormat(**settings)` is the same format.
        """
        return asdict(self)

    def _first_fault(
        self, values: np.ndarray, scaling: Scaling, bad: np.ndarray, series: str | int | None, names: Sequence[str]
    ) -> str:
        """What keeps a series from being written, in one line."""
        if not scaling.exists:  # then all values are bad; name one that is so by itself and may have spoilt the scale
            bad = ~(np.isfinite(values) & ((values > -UNDERSHOOT) | bool(self.offset)))
        if not bad.any():
            found = f"{np.min(scaling.scale):g}" + " above its offset" * bool(self.offset)
            return f"{_place(series)}: the {self.percentile:g}th percentile of its context is {found}, " + (
                "so it has no scale; drop it"
            )
        step, variable = np.argwhere(bad)[0].tolist()
        name = names[variable] if names else f"variable {variable + 1}"
        value, place = values[step, variable], _place(series, f"step {step}", name)
        offset = np.broadcast_to(scaling.offset, values.shape)[step, variable]
        if not np.isfinite(value):
            return f"{place}: {value:g} is not finite; correct or drop the series"
        if value < offset:
            below = "negative" if offset == 0 else f"below the offset of the text, {offset:g}"
            return f"{place}: {value:g} is {below}; correct or drop the series"
        with np.errstate(over="ignore"):
            scaled = relative(values, scaling.scale, scaling.offset)[step, variable] * self.unit
        return (
            f"{place}: {value:g} is {scaled:.0f} in scaled units, outside 0-{self.largest}; "
            f"the {self.percentile:g}th percentile of the context should be {self.unit}"
        )


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


def relative(values: np.ndarray, scale: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """How large values are in units of their scale, from their offset on: 1 is what becomes scaled 1000.

    Parameters
    ----------
    values : ndarray of float, shape (..., steps, variables)
        Physical units.
    scale, offset : ndarray of float
        Physical units, of a shape that NumPy puts beside the values.

    Returns
    -------
    ndarray of float64, shape (..., steps, variables)
        Not finite where the value or the scale is not.
    """
    with np.errstate(all="ignore"):  # what is not finite is found by whoever asks
        return without_undershoot(np.asarray(values, dtype=np.float64) - offset) / scale


def rounded(parts: np.ndarray, rounding: str, digits: int, values: np.ndarray) -> np.ndarray:
    """The integers of relative values.

    Parameters
    ----------
    parts : ndarray of float64
        As `relative` gives them.
    rounding : {"nearest", "published"}
        As in `m2lib.series.codec.to_integers`.
    digits : int
        Of the largest number; 4 makes 1.0 to 1000.
    values : ndarray
        The physical values, to be named in errors.

    Returns
    -------
    ndarray of int64
        Scaled units, of the same shape.

    Raises
    ------
    InputError
        For an unknown rounding, and a value that is not finite once scaled.
    """
    if rounding not in ROUNDINGS:
        raise InputError(f"unknown rounding {rounding!r}: choose one of {', '.join(ROUNDINGS)}")
    # 0.23 at scale 2.0 is 1.15, and 1.15 * 100 is 114.99999999999999: 115 by `nearest`, 114 by `published`.
    decimals = digits - 2
    with np.errstate(over="ignore"):  # reported below
        last_digits = np.round(parts * 10, decimals) * 10**decimals
    fits = np.abs(last_digits) < 2**63  # else there is no int64 of it, and astype would make up a number; NaN is not
    if not fits.all():
        index = tuple(np.argwhere(~fits)[0].tolist())
        value = np.asarray(values)[index]
        raise InputError(f"values{list(index)} is {value:g}, which has no scaled integer; correct or drop it")
    return (np.rint(last_digits) if rounding == "nearest" else np.trunc(last_digits)).astype(np.int64)


def unwritable(parts: np.ndarray, digits: int = 4) -> np.ndarray:
    """Where relative values cannot be written: not finite, negative, or too large for their digits.

    Parameters
    ----------
    parts : ndarray of float64
        As `relative` gives them.
    digits : int, optional
        Of the largest number.

    Returns
    -------
    ndarray of bool
        Of the same shape.
    """
    with np.errstate(all="ignore"):  # what is not finite compares as False
        scaled = parts * 10 ** (digits - 1)
        return ~((scaled >= 0) & (scaled < 10**digits - 0.5))  # 9999.5 would be written as 10000


def is_scale(scale: np.ndarray) -> np.ndarray:
    """Whether numbers are scales: finite and above 0.

    Parameters
    ----------
    scale : ndarray of float
        Any numbers.

    Returns
    -------
    ndarray of bool
        Of the same shape.
    """
    return np.isfinite(scale) & (np.asarray(scale) > 0)


def format_steps(integers: np.ndarray) -> str:
    """The text of scaled integers.

    Parameters
    ----------
    integers : ndarray of int, shape (steps, variables)
        Scaled units.

    Returns
    -------
    str
        [[952, 1034], [948, 1029]] gives `952,1034;948,1029;`.
    """
    return "".join(",".join(map(str, step)) + ";" for step in np.asarray(integers).tolist())


def _place(series: str | int | None, *within: str) -> str:
    """Such as `series 7, step 3, prey`; a series without a name goes unnamed."""
    name = "the series" if series is None else f"series {series}"
    return ", ".join(within if within and series is None else (name, *within))
