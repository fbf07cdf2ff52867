"""The environment variables that set m2lib up: they are read, checked and described here alone.

An empty variable counts as one that is not set. `SETTINGS` lists all of them, and `m2 --help`
prints that list. (The study has three more, which `study.settings` reads.)
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from m2lib.errors import InputError


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
    "M2_BACKBONE": Setting(
        "which language model",
        "a backbone's name, a folder or a .gguf file",
        "smollm2-135m; in the study the profile's",
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
        "what the model computes in",
        "float32 or bfloat16",
        "float32; for recorded runs bfloat16 where the device has instructions for it",
        "float32|bfloat16",
    ),
    "M2_RECOMPUTE": Setting("train in less memory and a third more time", "0 or 1", "0", "0|1"),
    "M2_CACHE": Setting(
        "where converted weights are kept",
        FOLDER,
        "~/.cache/m2lib",
    ),
}


def read(name: str, known: Mapping[str, Setting] = SETTINGS) -> str | None:
    """Return the value of a known variable, None where it is not set.

    InputError names the variable and its possible values, where it has another one.
    """
    setting = known[name]
    value = os.environ.get(name)
    if value and setting.pattern and not re.fullmatch(setting.pattern, value):
        raise InputError(f"{name} is {value!r}; it may be {setting.may_be}")
    return value or None


def described(known: Mapping[str, Setting]) -> str:
    """Return a Markdown table of variables: what each sets, what it may be, and its default."""
    rows = [
        f"| {name} | {setting.about}: {setting.may_be} | {setting.default} |"
        for name, setting in known.items()
    ]
    return "\n".join(["| environment variable | sets | default |", "|---|---|---|", *rows])


def bars_are_off() -> bool:
    """Return whether `TQDM_DISABLE` is set, to whatever text, so that no progress bar is shown.

    The variable is tqdm's own, but the bars that it draws in notebooks do not heed it.
    """
    return bool(os.environ.get("TQDM_DISABLE"))


def cache_dir() -> Path:
    """Return `M2_CACHE`, the folder for converted weights and what was timed once."""
    return folder_of(read("M2_CACHE"), Path("~/.cache/m2lib"))


def folder_of(value: str | None, default: Path) -> Path:
    """Return the folder that a variable's value names, or the default: an absolute path."""
    return Path(value or default).expanduser().resolve()
