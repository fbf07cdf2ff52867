"""Series as text, and back: `952,1034;948,1029;`.

A step is its variables' integers, a comma between two and a semicolon at its end. `TextFormat` says
how the series of any table are written. The method is LLMTIME's (Gruver et al., "Large Language
Models Are Zero-Shot Time Series Forecasters", NeurIPS, 2023).

The study's format is `STUDY`. Values are divided by the series' own scale so that the 90th
percentile of the context becomes 10.00, rounded to two decimals and written in hundredths without
the point: 9.52 -> `952`. *Scaled units* are these integers everywhere in the project. `scale_of`,
`to_integers`, `unscale`, `encode` and `decode` are of it.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from m2lib.files import InputError

CODEC_VERSION = 1  # raise it when the text of any series, or the reading of any text, changes
CONTEXT_STEPS = 80  # steps the model sees
FORECAST_STEPS = 20  # steps it forecasts
VARIABLES = ("prey", "predator")  # the study's, in the order in which a step holds them
FORMAT_FILE = "text_format.json"  # beside an adapter
PAD = "<pad>"  # what fills a text up; the text proper ends at the first
MOST_VARIABLES = 8
SHORTEST = 10  # steps of a context of any table at least
ROUNDINGS = {"nearest": np.rint, "published": np.trunc}  # see `to_integers`
# Physical units: LSODA's default absolute tolerance in scipy. By less than this it may end below
# zero where zero is meant (seed 14, series 248: -6.7e-8).
UNDERSHOOT = 1e-6
_FIELD = re.compile(
    r"[0-9]{1,6}"
)  # ASCII only: int() and isdigit() would also take `1_0`, `+5`, Arabic digits


@dataclass(frozen=True)
class Decoded:
    """A text read back."""

    values: np.ndarray
    """int64, shape (steps, variables), scaled units."""
    repairs: int
    """How many of the values were missing or unreadable and had to be filled in, 0 to variables *
    steps."""


@dataclass(frozen=True)
class Scaling:
    """The straight line from a series' physical values to its scaled ones: (value - offset) / scale
    * unit.

    Scale and offset have shape (..., 1, 1), or (..., 1, variables) where each variable has its own,
    so that NumPy puts them beside values of shape (..., steps, variables).
    """

    scale: np.ndarray
    """float64, physical units: what becomes `unit`."""
    offset: np.ndarray
    """float64, physical units: what becomes 0."""
    unit: int = 1000
    """Of the text format."""

    @property
    def exists(self) -> bool:
        """Whether series can be written by it: not where a context has gaps, or is 0 or constant
        nearly throughout."""
        return bool(np.all((self.scale > 0) & np.isfinite(self.scale) & np.isfinite(self.offset)))

    def relative(self, values: np.ndarray) -> np.ndarray:
        """Physical values in units of their scale, from their offset on: 1 is what becomes
        `unit`."""
        with np.errstate(all="ignore"):  # whoever writes them refuses what is not finite
            return (
                without_undershoot(np.asarray(values, dtype=np.float64) - self.offset) / self.scale
            )

    def physical(self, scaled: np.ndarray) -> np.ndarray:
        """Physical values back from scaled ones."""
        return np.asarray(scaled, dtype=np.float64) / self.unit * self.scale + self.offset


@dataclass(frozen=True)
class TextFormat:
    """How series are written. It is stored with an adapter, which knows texts of its own format
    only."""

    variables: int = 2
    """How many each step has, 1 to 8; 0: any number, see `of`."""
    digits: int = 4
    """Of the largest number, 2 to 6: with four, scaled units go to 9999."""
    percentile: float = 90.0
    """Which percentile of the context becomes `unit`, above 0; 100 is the largest value."""
    offset: float = 0.0
    """How far below the context's smallest value scaled 0 lies, as a share of its range; at 0 it is
    physical 0 instead, and no value may be negative."""
    separate: bool = False
    """Whether each variable has a scale and an offset of its own; else all share one."""
    room: float = 10.0
    """How many times the context's percentile can be written: less room leaves finer steps."""
    spread: float = 1.0
    """How many times as far from their median samples are read as they were written, where a model
    is too sure."""

    def __post_init__(self) -> None:
        """Raise ValueError for a format that no series can have."""
        in_range = (
            0 <= self.variables <= MOST_VARIABLES
            and 2 <= self.digits <= 6
            and 0 < self.percentile <= 100
        )
        if not (
            in_range and 0 <= self.offset <= 10 and 1 < self.room <= 10 and 0 < self.spread <= 10
        ):
            may_be = "percentile above 0, at most 100; offset 0 to 10; room above 1, spread above 0, at most 10"
            raise ValueError(
                f"a text format has 0 to {MOST_VARIABLES} variables, numbers of 2 to 6 digits; {may_be}"
            )

    def of(self, variables: int) -> "TextFormat":
        """The same for series of so many variables, where the format is for any number."""
        return self if self.variables else replace(self, variables=variables)

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
        """How many tokens a step has whose numbers have all their digits: 10 of `dddd,dddd;`."""
        return self.variables * (self.digits + 1)

    def scaling(self, context: np.ndarray) -> Scaling:
        """The straight line that a context sets: nothing of the truth leaks into the prompt.

        Parameters
        ----------
        context : ndarray of float, shape (..., steps, variables)
            Physical units, one step or more, of one series or many.

        Returns
        -------
        Scaling
            It need not exist: not of a context that is zero throughout, or constant above an
            offset.
        """
        context = np.asarray(context, dtype=np.float64)
        axes = (-2,) if self.separate else (-2, -1)
        low, high = context.min(axes, keepdims=True), context.max(axes, keepdims=True)
        offset = low - self.offset * (high - low) if self.offset else np.zeros_like(low)
        scale = np.percentile(context - offset, self.percentile, axis=axes, keepdims=True)
        return Scaling(scale, offset, self.unit)

    def integers(
        self, values: np.ndarray, scaling: Scaling, rounding: str = "nearest"
    ) -> np.ndarray:
        """Scaled integers of physical values (..., steps, variables), as of `to_integers`."""
        # Scale 2.0 is written as 10.00, so 0.23 is 1.15, and 1.15 * 100 is 114.99999999999999: 115
        # by `nearest`, 114 by `published`.
        decimals = self.digits - 2
        last_digits = (
            np.round(scaling.relative(values) * (self.unit / 10**decimals), decimals) * 10**decimals
        )
        return ROUNDINGS[rounding](last_digits).astype(np.int64)

    def encode(
        self,
        values: np.ndarray,
        scaling: Scaling,
        rounding: str = "nearest",
        series: str | int | None = None,
    ) -> str:
        """The text of one series, the last semicolon kept.

        Parameters
        ----------
        values : ndarray of float, shape (steps, variables)
            Physical units.
        scaling : Scaling
            The series'.
        rounding : {"nearest", "published"}, optional
            As in `to_integers`.
        series : str or int, optional
            The series' name in errors.

        Returns
        -------
        str
            Such as `952,1034;948,1029;`.

        Raises
        ------
        InputError
            For a series without a scale; for a value that is not finite, below scaled 0, or too
            large once scaled, naming series, step and variable.
        """
        who = "the series" if series in (None, "series") else f"series {series}"
        if not scaling.exists:
            raise InputError(
                f"{who} has no scale: what is read is constant, mostly 0, or not finite; drop it"
            )
        scaled: np.ndarray = scaling.relative(values) * self.unit
        written = (scaled >= 0) & (
            scaled < self.largest + 0.5
        )  # 9999.5 would be written as 10000; NaN is neither
        if not written.all():
            step, variable = np.argwhere(~written)[0]
            problem = f"is {scaled[step, variable]:g} in scaled units, outside 0-{self.largest}"
            raise InputError(
                f"{who}, step {step}, variable {variable + 1} {problem}; correct or drop the series"
            )
        return "".join(
            ",".join(map(str, step)) + ";"
            for step in self.integers(values, scaling, rounding).tolist()
        )

    def decode(self, text: str, steps: int, last: Sequence[int]) -> Decoded:
        """Read a model's text back, whatever it is: never raises, always `steps` steps.

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
        pieces = text.split(PAD, 1)[0].split(";", steps)  # the rest, in one piece, is not read
        current, repairs, rows = list(last), 0, []
        for piece in (pieces + [""] * steps)[
            :steps
        ]:  # a missing step is like an empty one, a missing field likewise
            fields = piece.split(",", self.variables) + [""] * self.variables
            for variable, field in enumerate(fields[: self.variables]):
                if _FIELD.fullmatch(field):
                    current[variable] = int(field)
                else:
                    repairs += 1  # and `current` keeps the last good value
            rows.append(tuple(current))  # a copy, for `current` goes on changing
        return Decoded(np.array(rows, dtype=np.int64).reshape(-1, self.variables), repairs)

    def settings(self) -> dict[str, int | float | bool]:
        """What says it all: `TextFormat(**settings)` is the same format."""
        # Records made before there was a spread keep their fingerprints: where it is 1, it is left
        # out.
        return {
            name: value for name, value in asdict(self).items() if name != "spread" or value != 1
        }


STUDY = TextFormat()
TABLES = TextFormat(variables=0, digits=3, percentile=100.0, offset=0.5, separate=True, room=2.0)
"""How an adapter for any table writes. The context lies from 167 to 500, and a forecast may leave
it by half its range below, by one and a half above."""


def without_undershoot(values: np.ndarray) -> np.ndarray:
    """Zero for what is below zero by less than the integrator's tolerance, all else as it is."""
    return np.where((values < 0) & (values > -UNDERSHOOT), values.dtype.type(0), values)


def scale_of(context: np.ndarray) -> np.ndarray:
    """The 90th percentile of each series' context, both variables together.

    Parameters
    ----------
    context : ndarray of float, shape (..., steps, 2)
        Physical units.

    Returns
    -------
    ndarray of float64, shape (...)
        The physical value that scaled 1000 stands for, by linear interpolation. Not finite where
        the context is not, and 0 where it is 0 nearly throughout: `encode` refuses both.
    """
    return STUDY.scaling(context).scale[..., 0, 0]


def to_integers(values: np.ndarray, scale: ArrayLike, rounding: str = "nearest") -> np.ndarray:
    """Scaled integers of physical values.

    Parameters
    ----------
    values : ndarray of float, shape (..., steps, 2)
        Physical units.
    scale : float or ndarray of float, shape (...)
        As `scale_of` gives it: a number, or one per series. Physical units.
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
    """Physical values (..., steps, 2), float64, back from scaled integers; scales as in
    `to_integers`."""
    return _scaling(scale).physical(integers)


def encode(
    values: np.ndarray, scale: ArrayLike, rounding: str = "nearest", series: str | int | None = None
) -> str:
    """The text of one series (steps, 2) at its scale, by `TextFormat.encode`: `prey,predator;` a
    step."""
    return STUDY.encode(values, _scaling(scale), rounding, series)


def decode(text: str, steps: int = FORECAST_STEPS, last: tuple[int, int] = (0, 0)) -> Decoded:
    """Read a model's text back, whatever it is, by the rules of `TextFormat.decode`."""
    return STUDY.decode(text, steps, last)


def _scaling(scale: ArrayLike) -> Scaling:
    """The study's straight lines: scales (50,) become (50, 1, 1), so that each meets all steps of
    its own series."""
    return Scaling(np.asarray(scale, dtype=np.float64)[..., None, None], np.zeros((1, 1)))
