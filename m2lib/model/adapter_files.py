"""Adapters as files in PEFT's format, so that PEFT reads ours and we read PEFT's."""

from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Generator, Tensor, nn, no_grad

from m2lib import __version__
from m2lib.errors import InputError, first_line
from m2lib.files import delete, read_json, short_hash, write_atomic, write_json
from m2lib.model.catalogue import hub_name
from m2lib.model.lora import adapter_settings, inject_lora, lora_layers, merge_lora

ADAPTER_FILE = "adapter_model.safetensors"  # the A's and B's, as PEFT names both file and tensors
CONFIG_FILE = "adapter_config.json"  # rank, alpha and targets, as PEFT names them
BIAS_FILE = "head_bias.safetensors"  # ours alone: PEFT's LoRA has no bias in the head
BIAS = "lm_head.bias"
# Ours alone, too: the version of m2lib that wrote the adapter. It is not in the config, because
# PEFT warns of settings that it does not know. And it is no .json file, so that it is no part of
# `adapter_hash`: the same training has the same hash, whichever version ran it.
VERSION_FILE = "m2lib_version.txt"
# PEFT has written this setting since its first version, and this library never does: an adapter
# without it was trained here, and so has a bias in the head.
PEFTS_OWN = "fan_in_fan_out"
# PEFT's settings that change what an adapter computes, each with the values that `LoRALinear`
# computes too. `init_lora_weights` is among them because most ways to initialise an adapter, such
# as PiSSA, change the frozen weights; an activated LoRA works only behind certain tokens. Settings
# that are not here (DoRA, say) also change names or shapes of the tensors, and `load_adapter`
# compares those.
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "alora_invocation_tokens": (None,),
    "use_rslora": (None, False),
    "alpha_pattern": (None, {}),
    "init_lora_weights": (None, True, False, "gaussian"),
}


def save_adapter(model: nn.Module, folder: str | Path, backbone: str) -> None:
    """Write the adapter in PEFT's two files, and beside them the head's bias and m2lib's version.

    The text format is not written: a forecaster reads it from `text_format.json`, and takes the
    study's where there is no such file.

    Parameters
    ----------
    model : PreTrainedModel
        A model with adapters; it is left as it is.
    folder : str or Path
        Where the files go; it is created if needed.
    backbone : str
        The backbone as `load_backbone` takes it in any working directory: `Backbone.loaded_by`, a
        known name or an absolute path. For a known name the config gets that on the hub, so that
        PEFT can load the model there.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    ValueError
        If the model has no adapters.
    """
    folder = Path(folder)
    adapter = adapter_settings(model)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": hub_name(backbone),
        "r": adapter["rank"],
        "lora_alpha": adapter["alpha"],
        "target_modules": sorted(adapter["targets"]),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    tensors = {}
    for name, factor in _factors(model).items():
        tensors[name] = factor.detach().cpu().contiguous()
    bias = model.get_output_embeddings().bias.detach().cpu().contiguous()

    # A folder counts as an adapter by its config. So an old config goes first and the new one comes
    # last: if the process is killed in between, nobody reads half an adapter.
    delete(folder / CONFIG_FILE)
    write_atomic(folder / BIAS_FILE, save({BIAS: bias}))
    write_atomic(folder / ADAPTER_FILE, save(tensors))
    write_atomic(folder / VERSION_FILE, f"{__version__}\n".encode())
    write_json(folder / CONFIG_FILE, config)


def load_adapter(model: nn.Module, folder: str | Path) -> nn.Module:
    """Inject the adapter stored in a folder, one of ours or of PEFT's, in place.

    Its text format and its views are not read. `m2tables.Forecaster.from_pretrained` loads
    an adapter together with them.

    Parameters
    ----------
    model : PreTrainedModel
        A model with a reduced vocabulary and without adapters. If the adapter does not fit, the
        model has none afterwards either.
    folder : str or Path
        Holds adapter_config.json and adapter_model.safetensors, and head_bias.safetensors if it
        was trained with this library.

    Returns
    -------
    PreTrainedModel
        The same model.

    Raises
    ------
    InputError
        If the model has an adapter already; and if the files are missing, broken or of another
        model, hold NaN or infinity, or have settings of PEFT's that this library does not compute:
        folder, file and tensor are named.
    """
    folder = Path(folder)
    if lora_layers(model):
        raise InputError("this model has an adapter already; merge it, or load the backbone again")
    try:
        config, tensors = _read(folder)
        # PEFT lets the list name layers of other architectures, too; a model has some of them.
        named_targets = tuple(config["target_modules"])
        in_model = {path.split(".")[-1] for path, _ in model.named_modules()}
        targets = tuple(name for name in named_targets if name in in_model) or named_targets
        # The first values of A are replaced below, so they do not come from the caller's stream of
        # random numbers, which loading an adapter leaves as it is.
        first_values = Generator()
        inject_lora(
            model, config["r"], config["lora_alpha"], targets=targets, generator=first_values
        )
        parameters = _factors(model)
        if BIAS in tensors:
            parameters[BIAS] = model.get_output_embeddings().bias
        unfit_names = _unfit(parameters, tensors)
        if unfit_names:
            merge_lora(model)  # B is still zero, so this removes the adapters and changes nothing
            raise ValueError(f"{unfit_names[0]} does not fit")
    except Exception as error:  # readers of foreign files raise many types; each means unfit files
        raise InputError(
            f"{folder}: not a LoRA adapter of this model ({first_line(error)}); "
            "load the model that it was trained on, or copy the adapter again"
        ) from error

    with no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)
    return model


def adapter_hash(folder: Path) -> str:
    """Hash an adapter's files, names and contents: 16 hex digits, or empty without files.

    They are its .json and .safetensors files, so neither its card nor the version that wrote it
    changes the hash.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors"))
    if not files:
        return ""
    return short_hash(b"".join(path.name.encode() + path.read_bytes() for path in files))


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the config and the tensors of an adapter's files.

    ValueError for settings that this library does not compute, for a bias that is missing, and for
    tensors that are not finite.
    """
    config = read_json(folder / CONFIG_FILE)
    for setting, values in SUPPORTED.items():
        if config.get(setting) not in values:
            raise ValueError(f"{CONFIG_FILE} sets {setting}, which this library does not read")
    if isinstance(config["target_modules"], str):  # PEFT takes a pattern, too
        raise ValueError(f"target_modules of {CONFIG_FILE} is a pattern; list the names")

    factors = load((folder / ADAPTER_FILE).read_bytes())
    biases = {}
    if (folder / BIAS_FILE).exists():
        biases = load((folder / BIAS_FILE).read_bytes())
    elif PEFTS_OWN not in config:
        raise ValueError(f"{BIAS_FILE}, which holds {BIAS}, is missing; copy it, too")
    _check_finite(ADAPTER_FILE, factors)
    _check_finite(BIAS_FILE, biases)
    return config, factors | biases


def _factors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return every A and B of a model, by its name in PEFT's adapter file.

    PEFT wraps a model twice, and both wrappers are in the name, such as
    `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    """
    factors = {}
    for path, layer in lora_layers(model).items():
        factors[f"base_model.model.{path}.lora_A.weight"] = layer.lora_A
        factors[f"base_model.model.{path}.lora_B.weight"] = layer.lora_B
    return factors


def _check_finite(file: str, tensors: dict[str, Tensor]) -> None:
    """Raise ValueError for a tensor that is not finite, naming it and its file."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{file}: {name} holds NaN or infinity")


def _unfit(parameters: dict[str, nn.Parameter], tensors: dict[str, Tensor]) -> list[str]:
    """Return the names, sorted, that only one side has or whose shapes differ."""
    expected = {(name, parameter.shape) for name, parameter in parameters.items()}
    stored = {(name, tensor.shape) for name, tensor in tensors.items()}
    return sorted({name for name, _ in expected ^ stored})  # ^: in one of the two alone
