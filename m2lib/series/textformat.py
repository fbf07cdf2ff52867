"""Series as text: how a step is written, and read.

A step is its variables' integers, a comma between two and a semicolon at the end: `952,1034;` of two variables, `952;`
of one. What the integers stand for is a matter of each series' own context, from which `TextFormat.scaling` is taken.
The method is LLMTIME's (see `m2lib.series.codec`); the study's own format, two variables of four digits, is
`TextFormat()`.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from m2lib.files import InputError
from m2lib.series.scaling import UNDERSHOOT, Scaling, relative, rounded, unwritable

PAD = "<pad>"  # what fills a text up; the text proper ends at the first
VARIABLES = ("prey", "predator")  # the study's, in the order in which a step holds them
MOST_VARIABLES = 8
_FIELD = re.compile(r"[0-9]{1,6}")  # ASCII only: int() and isdigit() would also take `1_0`, `+5`, Arabic digits


@dataclass(frozen=True)
class Decoded:
    """A text read back."""

    values: np.ndarray
    """int64, shape (steps, variables), scaled units."""
    repairs: int
    """How many of the values were missing or unreadable and had to be filled in, 0 to variables * steps."""


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
