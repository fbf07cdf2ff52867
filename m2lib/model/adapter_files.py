"""Adapters as files, in PEFT's format, so that they pass between PEFT and ours both ways."""

from pathlib import Path

from safetensors.torch import load, save
from torch import nn, no_grad

from m2lib.files import InputError, first_line, read_json, short_hash, write_atomic, write_json
from m2lib.model.lora import adapter_settings, inject_lora, lora_layers, merge_lora
from m2lib.model.weights import hub_name

ADAPTER_FILE, CONFIG_FILE, BIAS_FILE = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "head_bias.safetensors",
)
BIAS = "lm_head.bias"
# Settings of PEFT that change what an adapter computes, and the values that this layer knows.
# Others of the kind change names or shapes of the tensors too, which are compared. Most other ways
# to begin change the frozen weights.
READ = {
    "use_rslora": (None, False),
    "alpha_pattern": (None, {}),
    "init_lora_weights": (None, True, False, "gaussian"),
}


def save_adapter(model: nn.Module, folder: Path, backbone: str) -> None:
    """Write the adapter as PEFT reads it (adapter_config.json, adapter_model.safetensors), the
    head's bias beside it.

    Parameters
    ----------
    model : PreTrainedModel
        With adapters; it is left as it is.
    folder : Path
        Made where it is not there.
    backbone : str
        Its name. As the base model is noted what the hub calls it, so that PEFT can find it there.

    Raises
    ------
    InputError
        Where the folder cannot be written to.
    """
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
    tensors = {name: factor.detach().cpu().contiguous() for name, factor in _factors(model).items()}
    bias = model.get_output_embeddings().bias.detach().cpu().contiguous()
    (folder / CONFIG_FILE).unlink(
        missing_ok=True
    )  # it makes a folder an adapter, so it goes first and comes last
    write_atomic(folder / BIAS_FILE, save({BIAS: bias}))
    write_atomic(folder / ADAPTER_FILE, save(tensors))
    write_json(folder / CONFIG_FILE, config)


def load_adapter(model: nn.Module, folder: str | Path) -> nn.Module:
    """Inject the adapter stored in a folder, ours or PEFT's, in place.

    Parameters
    ----------
    model : PreTrainedModel
        With a reduced vocabulary, and without adapters. Where the adapter does not fit, it has none
        afterwards either.
    folder : str or Path
        Holds adapter_config.json and adapter_model.safetensors. The head's bias is read where its
        file is there.

    Returns
    -------
    PreTrainedModel
        The same model.

    Raises
    ------
    InputError
        Naming the folder, for files that are missing, broken, of another model, or with settings of
        PEFT's that this library does not read.
    """
    folder = Path(folder)
    try:
        config = read_json(folder / CONFIG_FILE)
        if unread := [name for name, known in READ.items() if config.get(name) not in known]:
            raise ValueError(f"{CONFIG_FILE} sets {unread[0]}, which this library does not read")
        tensors = load((folder / ADAPTER_FILE).read_bytes())
        biases = load((folder / BIAS_FILE).read_bytes()) if (folder / BIAS_FILE).exists() else {}
        inject_lora(
            model, config["r"], config["lora_alpha"], targets=tuple(config["target_modules"])
        )
        parameters = _factors(model) | (
            {BIAS: model.get_output_embeddings().bias} if biases else {}
        )
        needed, found = (
            {name: x.shape for name, x in given.items()} for given in (parameters, tensors | biases)
        )
        if wrong := dict(needed.items() ^ found.items()):
            merge_lora(model)  # B is still zero, so this takes the adapters out and changes nothing
            raise ValueError(f"{min(wrong)} does not fit")
    except (
        Exception
    ) as error:  # readers of foreign files raise many kinds; each means that the files are unfit
        raise InputError(
            f"{folder}: not a LoRA adapter of this model ({first_line(error)})"
        ) from error
    with no_grad():
        for name, tensor in (tensors | biases).items():
            parameters[name].copy_(tensor)
    return model


def adapter_hash(folder: Path) -> str:
    """16 hex digits of a hash of an adapter's files; empty where there are none."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors"))
    content = b"".join(path.name.encode() + path.read_bytes() for path in files)
    return short_hash(content) if files else ""


def _factors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every A and B of a model, by its name in PEFT's adapter file.

    PEFT wraps a model twice, and the name goes through both wrappers, such as
    `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    """
    return {
        f"base_model.model.{path}.{factor}.weight": getattr(layer, factor)
        for path, layer in lora_layers(model).items()
        for factor in ("lora_A", "lora_B")
    }
