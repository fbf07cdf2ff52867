"""Which language model, on what device and in what dtype; and its shape without its weights.

Transformers reads a model's folder: safetensors, no pickle, no code, no network. It only warns of
weights that are missing, and it computes models that the fast engine (`m2lib.decoding.Engine`) does
not: both are errors here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from m2lib.files import InputError, first_line, read_json, short_hash
from m2lib.model.devices import DTYPES, chosen_device, chosen_dtype
from m2lib.model.vocabulary import TokenRemap, reduce_vocabulary
from m2lib.model.weights import (
    BACKBONES,
    LOCAL,
    backbone_id,
    is_random,
    local_weights,
    quiet_transformers,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CONFIGS = Path(__file__).parent / "configs"  # the shapes of the known backbones, one JSON each
COMPUTED = {
    "model_type": ("llama", "qwen2"),
    "hidden_act": ("silu", "swish"),  # two names of one function
    "rope_type": (
        "default",
        "linear",
        "llama3",
        "yarn",
    ),  # angles that depend on the position alone
    "partial_rotary_factor": (1,),
    "attention_bias": (False,),  # Qwen2 has biases in q, k and v, and no setting says so
    "mlp_bias": (False,),
    "sliding_window": (None,),
    "attention_chunk_size": (None,),
    "is_heterogeneous": (False,),
    "quantization_config": (None,),
    "transformers_weights": (None,),
}
"""Settings of a config.json that change what is computed or read, and the values of each that the
fast engine computes; the first holds where the file says nothing."""


@dataclass(frozen=True)
class Backbone:
    """A loaded model and where it came from."""

    name: str
    """The name that results are filed under (`weights.backbone_id`)."""
    model: "PreTrainedModel"
    """In eval mode; it has the 13-token vocabulary unless loaded with reduce=False."""
    remap: TokenRemap
    """The model's own ids of the 13 tokens."""
    tokenizer: "PreTrainedTokenizerBase"
    """Of its full vocabulary."""
    weight_hash: str
    """16 hex digits of a sha256: of the weight files (of the .gguf that they were converted from),
    or of the random weights."""
    source: str
    """The folder that the weights were read from, or `random weights`."""
    loaded_by: str
    """What `load_backbone` takes to load it again, from any folder: a known name, or a path from
    the root."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def dtype(self) -> str:
        """What the model computes in, `float32` or `bfloat16`."""
        return str(self.model.dtype).removeprefix("torch.")


def load_backbone(
    name: str, *, device: str | None = None, dtype: str | None = None, reduce: bool = True
) -> Backbone:
    """Load a backbone that is on this machine. Never uses the network.

    Parameters
    ----------
    name : str
        A name in `weights.BACKBONES`, or the path of a local model folder or .gguf file.
    device : str, optional
        `cpu`, `cuda`, `cuda:N` or `mps`. Default: `chosen_device`.
    dtype : str, optional
        `float32` or `bfloat16`. Default: `chosen_dtype`.
    reduce : bool, optional
        False keeps the full vocabulary.

    Returns
    -------
    Backbone
        In eval mode.

    Raises
    ------
    InputError
        Where the weights are not at hand, in one line that says how to get them; where they or the
        tokenizer do not fit; for a dtype or a device that cannot be used.
    """
    device = device or chosen_device()
    dtype = dtype or chosen_dtype(device)
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    model, tokenizer, sha256, source = (
        _random(name) if is_random(name) else _from_folder(name, dtype)
    )
    remap = TokenRemap.from_tokenizer(tokenizer)
    try:
        model = model.to(device, getattr(torch, dtype)).eval()
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"cannot use device {device!r} with dtype {dtype!r}: {first_line(error)}; set M2_DEVICE=cpu"
        ) from error
    if reduce:
        reduce_vocabulary(model, remap)
    loaded_by = name if name in BACKBONES else str(Path(name).expanduser().absolute())
    return Backbone(backbone_id(name), model, remap, tokenizer, sha256, source, loaded_by)


def weight_hash(name: str) -> str:
    """`Backbone.weight_hash` of a backbone, without loading it."""
    return _random(name)[2] if is_random(name) else local_weights(name)[1]


def backbone_config(name: str) -> "PretrainedConfig":
    """The transformers config of a backbone: shapes without weights, before its vocabulary is
    reduced.

    A known name is read from m2lib/model/configs, so its weights need not be here.

    Raises
    ------
    InputError
        Where a path holds no model, or one that is not a plain Llama or Qwen2, naming the setting.
    """
    return _config(
        CONFIGS / f"{name}.json" if name in BACKBONES else local_weights(name)[0] / "config.json"
    )


def meta_model(config: "PretrainedConfig") -> "PreTrainedModel":
    """A model on the meta device: every parameter has a shape and none has memory."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@torch.no_grad()
def shuffle_weights(model: torch.nn.Module) -> torch.nn.Module:
    """Shuffle the entries of each weight matrix, in place: all sizes stay, and what was learned is
    gone.

    It is what a sceptic puts in the place of a pretrained model. Mean, spread and outliers of every
    matrix stay; of a reduced model the kept rows of embedding and head are shuffled among
    themselves. Vectors (norms, biases) are left alone. The permutations are drawn on the CPU, and
    so the same on every device.
    """
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return model


def _config(path: Path) -> "PretrainedConfig":
    """What a config.json says of a model; InputError for one that the fast engine does not compute,
    by its setting."""
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(path, **LOCAL)
    except Exception as error:  # of many kinds; each means that the file is unfit
        problem = " ".join(str(error).split())
        raise InputError(f"{path}: {problem:.300}; use a plain Llama or Qwen2 model") from error
    # The file may name code on the hub; and PEFT would look for a model where the file lies.
    config._attn_implementation, config._name_or_path = None, ""
    rope = getattr(config, "rope_parameters", None) or {}
    found = {
        setting: rope.get(setting, getattr(config, setting, at[0]))
        for setting, at in COMPUTED.items()
    }
    unlike = [setting for setting, value in found.items() if value not in COMPUTED[setting]]
    if not unlike and getattr(config, "head_dim", None) not in (
        None,
        config.hidden_size // config.num_attention_heads,
    ):
        unlike = ["head_dim"]
    if unlike:
        raise InputError(
            f"{path}: {unlike[0]} is not that of a plain Llama or Qwen2 model; use one"
        )
    return config


def _from_folder(
    name: str, dtype: str
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", str, str]:
    """A backbone's model, tokenizer, weight hash and folder; InputError where the files do not hold
    a model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, sha256 = local_weights(name)
    config, index = _config(folder / "config.json"), folder / "model.safetensors.index.json"
    how = {"dtype": dtype, "attn_implementation": "sdpa", "use_safetensors": True}
    reported = {
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }  # of what does not fit
    try:
        if (
            folder / "adapter_config.json"
        ).exists():  # transformers would load what it names as its base
            raise ValueError(
                "an adapter lies beside the model; merge it, or move it into a folder of its own"
            )
        files = read_json(index)["weight_map"].values() if index.exists() else ()
        if not all(file.endswith(".safetensors") for file in files):
            raise ValueError(f"{index.name} names files that are no safetensors")
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
            model, loaded = AutoModelForCausalLM.from_pretrained(
                folder, config=config, **how, **reported, **LOCAL
            )
        # Keys that are missing, unknown or of another shape; one of these is a tuple, its name
        # first.
        unfit = [
            key[0] if isinstance(key, tuple) else key for keys in loaded.values() for key in keys
        ]
        if unfit:
            raise ValueError(f"config.json and weights do not agree on {min(unfit)}")
    except Exception as error:  # transformers and safetensors raise many kinds; each means that the files are unfit
        raise InputError(
            f"{folder}: cannot load a model from here ({first_line(error)}); download it again or use another"
        ) from error
    return model, tokenizer, sha256, str(folder)


def _random(name: str) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", str, str]:
    """Model, tokenizer, weight hash and `random weights`, the same at each call."""
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    with torch.random.fork_rng(
        devices=[]
    ):  # the caller's random numbers go on as if nothing had been drawn here
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(backbone_config(name), dtype=torch.float32)
    # Printable ASCII, so that the 13 symbols sit at other ids than in the reduced vocabulary: `0`
    # is 16 here, 1 there.
    file = str(CONFIGS / "ascii_tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, pad_token="<|endoftext|>")
    content = b"".join(parameter.detach().numpy().tobytes() for parameter in model.parameters())
    return model, tokenizer, short_hash(content), "random weights"
