"""The environment variables that set m2lib up: they are read, checked and described here alone.

An empty variable counts as one that is not set. `SETTINGS` lists all of them, and `m2 --help`
prints that list.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from m2lib.files import InputError, workspace


@dataclass(frozen=True)
class Setting:
    """An environment variable: what it means, and which values it may have."""

    about: str
    """What it sets."""
    may_be: str
    """Its possible values, in words."""
    default: str
    """What holds where it is not set, in words."""
    pattern: str = ""
    """A regular expression that matches a whole valid value; empty where any text will do."""


FOLDER = "a folder, which need not exist yet"
SETTINGS = {
    "M2_PROFILE": Setting(
        "how big a run is", "slice, laptop, fifth or report", "slice", "slice|laptop|fifth|report"
    ),
    "M2_BACKBONE": Setting(
        "which language model", "a backbone's name, a folder or a .gguf file", "the profile's"
    ),
    "M2_DATA": Setting(
        "the data set", "an HDF5 file", "data/lotka_volterra_data.h5, or made anew from the recipe"
    ),
    "M2_DEVICE": Setting(
        "what computes",
        "cpu, cuda, cuda:N or mps",
        "cuda if here, else cpu",
        r"cpu|mps|cuda(:\d+)?",
    ),
    "M2_DTYPE": Setting(
        "of the weights", "float32 or bfloat16", "the faster one, measured once", "float32|bfloat16"
    ),
    "M2_RECOMPUTE": Setting("train in less memory and a third more time", "0 or 1", "0", "0|1"),
    "M2_CACHE": Setting("where downloaded and converted weights lie", FOLDER, "~/.cache/m2lib"),
    "M2_OUT": Setting("where live runs, figures and checkpoints are written", FOLDER, "build/"),
    "M2_RESULTS": Setting("where recorded runs lie", FOLDER, "report/results/"),
}


def read(name: str) -> str | None:
    """The value of a variable of `SETTINGS`, None where it is not set.

    InputError names the variable and its possible values, where it has another one.
    """
    setting = SETTINGS[name]
    value = os.environ.get(name)
    if value and setting.pattern and not re.fullmatch(setting.pattern, value):
        raise InputError(f"{name} is {value!r}; it may be {setting.may_be}")
    return value or None


def out_dir() -> Path:
    """`M2_OUT`: the folder that live runs write under."""
    return _folder("M2_OUT", workspace() / "build")


def cache_dir() -> Path:
    """`M2_CACHE`: the folder for downloaded and converted weights."""
    return _folder("M2_CACHE", Path("~/.cache/m2lib"))


def results_dir() -> Path:
    """`M2_RESULTS`: the folder of recorded runs."""
    return _folder("M2_RESULTS", workspace() / "report" / "results")


def described() -> str:
    """Rows of a Markdown table: each variable, what it sets, what it may be, and its default."""
    rows = [
        f"| {name} | {setting.about}: {setting.may_be} | {setting.default} |"
        for name, setting in SETTINGS.items()
    ]
    return "\n".join(rows)


def _folder(name: str, default: Path) -> Path:
    """The folder that a variable names, or the default: an absolute path."""
    return Path(read(name) or default).expanduser().resolve()
