"""Adapter folders: where they are, which language model they belong to, and their text formats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from m2lib.files import InputError, first_line, quoted, read_json
from m2lib.model import BACKBONES, CONFIG_FILE, hub_name
from m2lib.series import FORMAT_FILE, STUDY, TextFormat
from m2lib.settings import results_dir

GENERAL = Path(__file__).parent / "general"
"""The adapter for any table, which comes with the package.

It is the mean of the adapters of general-tail and general-even, with the spread that
`benchmarks.tables` chose. The name `general` means this adapter, and not the experiment that the
three began with.
"""


def adapter_folder(source: str | Path) -> Path:
    """The folder of an adapter: `source` itself, or that of the experiment with this name."""
    path = Path(source).expanduser()
    if source == GENERAL.name:
        return GENERAL
    if (path / CONFIG_FILE).is_file():
        return path
    # Records have a folder for each profile, and in it one for each experiment, such as
    # report/results/laptop-smollm2-135m/final. Where several profiles have an experiment of this
    # name, the laptop's is meant.
    for profiles in ("laptop-*", "*"):
        folders = [profile / path for profile in sorted(results_dir().glob(profiles))]
        recorded = [folder for folder in folders if (folder / CONFIG_FILE).is_file()]
        if recorded:
            return recorded[-1]
    raise InputError(
        f"{quoted(str(source))} is no folder with an {CONFIG_FILE}, "
        "nor an experiment that recorded one"
    )


def base_of(folder: Path) -> str:
    """The backbone that an adapter belongs to, by the name or path that `load_backbone` takes."""
    base = _read(folder / CONFIG_FILE, lambda config: str(config["base_model_name_or_path"]))
    # PEFT's files name a base model by its place on the hub.
    for name in BACKBONES:
        if hub_name(name) == base:
            return name
    return base


def read_format(folder: Path) -> TextFormat:
    """The text format of an adapter or an exported model; the study's if its folder holds none."""
    path = folder / FORMAT_FILE
    if not path.exists():
        return STUDY
    return _read(path, lambda fields: TextFormat(**fields))


def _read(path: Path, make: Callable[[Any], Any]) -> Any:
    """An adapter's JSON file, read and passed through `make`; InputError where either fails."""
    try:
        return make(read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)}); copy the adapter again"
        ) from error
