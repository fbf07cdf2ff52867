"""Adapter folders: where they are, which language model they belong to, and in which text format they were trained."""

import json
from pathlib import Path

from pydantic import TypeAdapter

from m2lib import settings
from m2lib.files import IN_CHECKOUT, ROOT, InputError, quoted, user_path
from m2lib.series import STUDY, TextFormat

FORMAT_FILE = "text_format.json"
_FORMAT = TypeAdapter(TextFormat)


def adapter_folder(source: str | Path) -> Path:
    """The folder of an adapter.

    Parameters
    ----------
    source : str or Path
        The folder itself, or the name of an experiment whose adapter lies beside its record.

    Returns
    -------
    Path
        It holds an adapter_config.json.

    Raises
    ------
    InputError
        Where there is no such adapter, with the names of those that there are.
    """
    from m2lib.model.adapter_files import CONFIG_FILE

    path = user_path(str(source), "the adapter")
    if (path / CONFIG_FILE).is_file():
        return path
    results = settings.results_dir() or (ROOT / "report" / "results" if IN_CHECKOUT else None)
    # report/results/laptop-smollm2-135m/final: a folder for each profile, in it a folder for each experiment.
    found = {file.parent.relative_to(results).as_posix().split("/", 1)[1]: file.parent
             for file in sorted(results.glob("*/**/" + CONFIG_FILE), reverse=True)} if results else {}  # fmt: skip
    if str(source) in found:
        return found[str(source)]
    known = f"; recorded adapters are {', '.join(sorted(found))}" if found else ""
    raise InputError(f"{quoted(str(source))} is no folder with an {CONFIG_FILE}{known}")


def base_of(folder: Path) -> str:
    """The backbone that an adapter belongs to.

    Parameters
    ----------
    folder : Path
        Of the adapter.

    Returns
    -------
    str
        A name or a path, as `m2lib.model.load_backbone` takes it; what an adapter names by its place on the hub is
        given the name that this library has for it.

    Raises
    ------
    InputError
        Where the adapter's file cannot be read.
    """
    from m2lib.model import BACKBONES
    from m2lib.model.adapter_files import CONFIG_FILE

    try:
        base = str(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / CONFIG_FILE}: cannot read the base model's name; name it with backbone="
        ) from error
    return next((name for name, spec in BACKBONES.items() if base in (spec.hub_id, spec.copy_of) and base), base)


def read_format(folder: Path) -> TextFormat:
    """The text format of an adapter.

    Parameters
    ----------
    folder : Path
        Of the adapter.

    Returns
    -------
    TextFormat
        From its text_format.json; the study's where there is none.

    Raises
    ------
    InputError
        Where the file is not one.
    """
    from m2lib.model import fault

    path = folder / FORMAT_FILE
    if not path.exists():
        return STUDY
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        named = {name: stored[name] for name in STUDY.settings()}
        return _FORMAT.validate_json(json.dumps(named), strict=True)  # 4.0 is no number of digits
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"not a text format ({fault(error)})"
        raise InputError(f"{path}: {problem}; take the file from the adapter's source") from error


def format_text(text_format: TextFormat) -> str:
    """What a text_format.json holds.

    Parameters
    ----------
    text_format : TextFormat
        To be stored.

    Returns
    -------
    str
        Its settings as JSON, which `read_format` reads.
    """
    return json.dumps(text_format.settings(), indent=1) + "\n"
