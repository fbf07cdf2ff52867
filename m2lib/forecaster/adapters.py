"""Adapter folders: where they are, which language model they belong to, and their text formats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from m2lib import __version__
from m2lib.errors import InputError, first_line, quoted
from m2lib.files import read_json, short_hash
from m2lib.forecaster.views import PLAIN, View
from m2lib.model import ADAPTER_FILE, BACKBONES, CONFIG_FILE, hub_name, written_by
from m2lib.series import FORMAT_FILE, STUDY, TextFormat

VIEWS_FILE = "views.json"  # beside an adapter
FACTS_FILE = "facts.json"
"""The file beside an adapter that says what is known of it; its card leaves out what is not there.

`limits` says what it cannot do, and `data` describes the series; `recipe` has the training's
settings by name, and `flops` its cost by the rules; `errors` are by forecast and measure, and
`measured` says in words on what.
"""
NO_ADAPTER = "none"
"""What is given in the place of an adapter, for the untuned model."""
GENERAL = "general"
"""The name of the adapter for any table, which comes with the package."""
GENERAL_FOLDER = Path(__file__).parent / GENERAL
"""The folder of `general`, which is inside the package.

Its weights are those that `benchmarks.candidates` chose among the study's runs, its views and its
spread those of `benchmarks.trials`.
"""


def adapter_folder(source: str | Path) -> Path:
    """Return the folder of an adapter: `source` itself, or that of `general`.

    Raises InputError for a folder that holds no adapter.
    """
    if source == GENERAL:
        return GENERAL_FOLDER
    path = Path(source).expanduser()
    if not (path / CONFIG_FILE).is_file():
        if str(source) in BACKBONES or (path / "config.json").is_file():
            raise InputError(
                f"{quoted(str(source))} is a language model and not an adapter; "
                "give it as the backbone (--backbone, backbone=)"
            )
        raise InputError(
            f"{quoted(str(source))} is no folder with an {CONFIG_FILE}; "
            "give an adapter's folder, `general`, or `none` for the untuned model"
        )
    return path


def base_of(folder: Path) -> str:
    """Return the backbone of an adapter, by the name or path that `load_backbone` takes."""
    base = _read(folder / CONFIG_FILE, lambda config: str(config["base_model_name_or_path"]))
    # PEFT's files name a base model by its place on the hub.
    for name in BACKBONES:
        if hub_name(name) == base:
            return name
    return base


def base_here(folder: Path) -> str:
    """Return the backbone to load for an adapter: a known name, or a path that exists.

    Raises InputError for a path at which nothing lies, as happens when an adapter comes from
    another machine.
    """
    base = base_of(folder)
    if base not in BACKBONES and not Path(base).expanduser().exists():
        raise InputError(
            f"{folder} was trained on {quoted(base)}, and no model lies there; "
            "say where it is (--backbone, backbone=)"
        )
    return base


def adapter_weights_hash(folder: Path | None) -> str:
    """Return a hash of an adapter's weights, not of its card; for None, the hash of no bytes."""
    return short_hash((folder / ADAPTER_FILE).read_bytes() if folder else b"")


def read_format(folder: Path) -> TextFormat:
    """Read the text format of an adapter or exported model; the study's if its folder holds none.

    Raises InputError for a file that cannot be read.
    """
    path = folder / FORMAT_FILE
    if not path.exists():
        return STUDY
    return _read(path, lambda fields: TextFormat(**fields))


def read_views(folder: Path) -> tuple[View, ...]:
    """Read the views of an adapter or exported model; the plain one if its folder names none."""
    path = folder / VIEWS_FILE
    if not path.exists():
        return PLAIN
    return _read(path, lambda rows: tuple(View(**fields) for fields in rows) or PLAIN)


def read_facts(folder: Path) -> dict[str, Any]:
    """Read what is known of an adapter, for its card; empty where its folder has no such file."""
    path = folder / FACTS_FILE
    return _read(path, dict, "correct it, or delete it") if path.exists() else {}


def _read(path: Path, make: Callable[[Any], Any], remedy: str = "") -> Any:
    """Read an adapter's JSON file and pass it through `make`; InputError where either fails."""
    try:
        return make(read_json(path))
    except (OSError, KeyError, TypeError, ValueError) as error:
        remedy = remedy or _repair_advice(path.parent)
        raise InputError(f"{path} cannot be read ({first_line(error)}); {remedy}") from error


def _repair_advice(folder: Path) -> str:
    """Say what to do about an adapter that cannot be read."""
    version = written_by(folder)
    if version == __version__:
        return "copy the adapter again"
    if version:
        advice = f"install m2lib {version}, which has written it (this is {__version__})"
    else:
        advice = "update m2lib, if a newer one has written it"
    return f"copy the adapter again, or {advice}"
