"""Adapter folders: where they are, which language model they belong to, and in which text format
they were trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from m2lib.files import InputError, first_line, quoted, read_json
from m2lib.model import BACKBONES, CONFIG_FILE, hub_name
from m2lib.series import FORMAT_FILE, STUDY, TextFormat
from m2lib.settings import results_dir

GENERAL = Path(__file__).parent / "general"
"""The adapter for any table, which comes with the package: the mean of those of general-tail and
general-even, with the spread that `benchmarks.tables` found. Its name means this one, and not the
experiment `general`, where all began."""


def adapter_folder(source: str | Path) -> Path:
    """The folder of an adapter: `source` itself, or where an experiment of that name has its
    own."""
    path = Path(source).expanduser()
    if source == GENERAL.name:
        return GENERAL
    if (path / CONFIG_FILE).is_file():
        return path
    # report/results/laptop-smollm2-135m/final: a folder for each profile, in it a folder for each
    # experiment. Where several profiles have one of a name, the laptop's is meant, and is put in
    # last.
    profiles = ("*", "laptop-*")
    recorded = [
        file
        for name in profiles
        for file in sorted(results_dir().glob(f"{name}/{source}/{CONFIG_FILE}"))
    ]
    if recorded:
        return recorded[-1].parent
    raise InputError(
        f"{quoted(str(source))} is no folder with an {CONFIG_FILE}, nor an experiment that recorded one"
    )


def base_of(folder: Path) -> str:
    """The backbone that an adapter belongs to, as `m2lib.model.load_backbone` takes it: a name or a
    path."""
    base = _read(folder / CONFIG_FILE, lambda config: str(config["base_model_name_or_path"]))
    # PEFT's files name a base by its place on the hub.
    return next((name for name in BACKBONES if hub_name(name) == base), base)


def read_format(folder: Path) -> TextFormat:
    """The text format of an adapter or an exported model; the study's where its folder names
    none."""
    path = folder / FORMAT_FILE
    return _read(path, lambda fields: TextFormat(**fields)) if path.exists() else STUDY


def _read(path: Path, make: Callable[[Any], Any]) -> Any:
    """What `make` makes of an adapter's JSON file."""
    try:
        return make(read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)}); copy the adapter again"
        ) from error
