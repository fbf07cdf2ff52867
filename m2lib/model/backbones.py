"""Load a language model onto a device in a dtype, or only its shape without the weights.

Transformers reads a model's folder: safetensors, no pickle, no code, no network. It merely warns of
weights that are missing, and it computes models that the fast engine (`m2lib.decoding.Engine`) does
not; both are errors here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from m2lib.errors import InputError, first_line
from m2lib.files import read_json, short_hash
from m2lib.model.catalogue import BACKBONES, is_random
from m2lib.model.devices import DTYPES, check_computes, chosen_device, chosen_dtype
from m2lib.model.vocabulary import TokenRemap, reduce_vocabulary
from m2lib.model.weights import (
    LOCAL,
    backbone_id,
    hash_of_files,
    local_weights,
    quiet_transformers,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CONFIGS = Path(__file__).parent / "configs"  # the shapes of the known backbones, one JSON each
COMPUTED = {
    "model_type": ("llama", "qwen2"),
    "hidden_act": ("silu", "swish"),  # two names of one function
    # Rotary embeddings whose angles depend on the position alone.
    "rope_type": ("default", "linear", "llama3", "yarn"),
    "partial_rotary_factor": (1,),
    "attention_bias": (False,),  # Qwen2 has biases in q, k and v, and no setting says so
    "mlp_bias": (False,),
    "is_causal": (True,),  # else a token attends to what follows it, too, as in embedding models
    "sliding_window": (None,),
    "attention_chunk_size": (None,),
    "is_heterogeneous": (False,),
    "quantization_config": (None,),
    "transformers_weights": (None,),
}
"""Settings of a config.json that change what is computed or read, each with the values that the
fast engine computes. The first is the default where the file does not set it."""


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
    """The model's own tokenizer, with its full vocabulary."""
    source: str
    """The folder that the weights were read from, or `random weights`."""
    loaded_by: str
    """The name that `load_backbone` takes to load it again from any working directory: a known
    name, or an absolute path."""

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        return self.model.device

    @property
    def dtype(self) -> str:
        """The dtype that the model computes in, `float32` or `bfloat16`."""
        return str(self.model.dtype).removeprefix("torch.")


def load_backbone(
    name: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    reduce: bool = True,
) -> Backbone:
    """Load a backbone that is on this machine, without using the network.

    `fetch_backbone` downloads one that is not.

    A .gguf file that is loaded for the first time is converted into `M2_CACHE`.

    Parameters
    ----------
    name : str or Path
        A name in `catalogue.BACKBONES`, or the path of a local model folder or .gguf file.
    device : str or torch.device, optional
        `cpu`, `cuda`, `cuda:N` or `mps`. Default: `M2_DEVICE`, else a CUDA GPU if there is one,
        else the CPU.
    dtype : str or torch.dtype, optional
        `float32` or `bfloat16`. Default: `M2_DTYPE`, else float32.
    reduce : bool, optional
        False keeps the full vocabulary.

    Returns
    -------
    Backbone
        In eval mode.

    Raises
    ------
    InputError
        If the weights are not on this machine (one line says how to get them), if weights and
        config or the tokenizer do not fit, or if the dtype or device cannot be used.
    """
    name = str(name)
    device = str(device or chosen_device())
    dtype = str(dtype or chosen_dtype()).removeprefix("torch.")
    if dtype not in DTYPES:
        raise InputError(
            f"{dtype!r} is no dtype of a model's weights (M2_DTYPE, dtype=); "
            f"choose {' or '.join(DTYPES)}"
        )

    pretrained = _random(name) if is_random(name) else _from_folder(name, dtype)
    remap = TokenRemap.from_tokenizer(pretrained.tokenizer)
    num_tokens = pretrained.model.get_input_embeddings().num_embeddings
    if max(remap.backbone_ids) >= num_tokens:
        raise InputError(
            f"{pretrained.source}: its tokenizer has a token beyond the {num_tokens} that the "
            "model knows, perhaps a pad that was added; use the tokenizer that the model was "
            "trained with"
        )
    try:
        model = pretrained.model.to(device, getattr(torch, dtype)).eval()
        check_computes(device)
    except (RuntimeError, AssertionError) as error:
        problem = f"cannot use device {device!r} with dtype {dtype!r}: {first_line(error)}"
        raise InputError(f"{problem}; take the CPU (M2_DEVICE=cpu, device='cpu')") from error
    if reduce:
        reduce_vocabulary(model, remap)

    loaded_by = name if name in BACKBONES else str(Path(name).expanduser().absolute())
    return Backbone(
        name=backbone_id(name),
        model=model,
        remap=remap,
        tokenizer=pretrained.tokenizer,
        source=pretrained.source,
        loaded_by=loaded_by,
    )


def weight_hash(name: str) -> str:
    """Return 16 hex digits that tell a backbone's weights from all others, as records keep them.

    They are of a sha256 (`weights.hash_of_files`), or of the numbers of random weights.
    """
    if not is_random(name):
        return hash_of_files(name)
    parameters = _random(name).model.parameters()
    content = b"".join(parameter.detach().numpy().tobytes() for parameter in parameters)
    return short_hash(content)


def backbone_config(name: str) -> "PretrainedConfig":
    """Return the transformers config of a backbone: its shape, before the vocabulary is reduced.

    The config of a known name is in m2lib/model/configs, so its weights need not be here.

    Raises
    ------
    InputError
        If a path holds no model, or one that is not a plain Llama or Qwen2; the setting is named.
    """
    if name in BACKBONES:
        return _config(CONFIGS / f"{name}.json")
    return _config(local_weights(name) / "config.json")


def meta_model(config: "PretrainedConfig") -> "PreTrainedModel":
    """Build a model on the meta device, where a parameter has a shape but no memory."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@torch.no_grad()
def shuffle_weights(model: torch.nn.Module) -> torch.nn.Module:
    """Shuffle the entries of each weight matrix, in place, so that all that was learned is lost.

    This is the control that a sceptic puts in the place of a pretrained model: mean, spread and
    outliers of every matrix stay as they are, and so do the vectors (norms and biases). In a
    reduced model the kept rows of embedding and head are shuffled among themselves. The
    permutations are drawn on the CPU, so they are the same on every device. Returns the model.
    """
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return model


def _config(path: Path) -> "PretrainedConfig":
    """Read a config.json; InputError naming a setting that the fast engine does not compute."""
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(path, **LOCAL)
    except Exception as error:  # transformers raises many types; each means an unfit file
        # All of its lines, because the first may say no more than which of its checks has failed.
        problem = " ".join(str(error).split())
        raise InputError(f"{path}: {problem:.300}; use a plain Llama or Qwen2 model") from error
    # The file may name attention code on the hub, and PEFT would look for a model at its path.
    config._attn_implementation = None
    config._name_or_path = ""

    unlike = _unlike_computed(config)
    if unlike:
        raise InputError(f"{path}: {unlike} is not that of a plain Llama or Qwen2 model; use one")
    return config


def _unlike_computed(config: "PretrainedConfig") -> str | None:
    """Return the first setting with a value that the fast engine does not compute, or None."""
    # Settings of the rotary embedding are in a dictionary of their own, all others in the config
    # itself; one that is in neither has its default.
    rope = getattr(config, "rope_parameters", None) or {}
    for setting, computed_values in COMPUTED.items():
        value = rope.get(setting, getattr(config, setting, computed_values[0]))
        if value not in computed_values:
            return setting
    head_dim = getattr(config, "head_dim", None)
    if head_dim not in (None, config.hidden_size // config.num_attention_heads):
        return "head_dim"
    return None


class _Pretrained(NamedTuple):
    """A model as transformers has made it, and what a `Backbone` takes over with it."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    source: str


def _from_folder(name: str, dtype: str) -> _Pretrained:
    """Read a backbone from its folder; InputError for unfit files."""
    folder = local_weights(name)
    config = _config(folder / "config.json")
    try:
        _check_files(folder)
        model, tokenizer = _load_transformers(folder, config, dtype)
    except Exception as error:  # the readers of weights raise many types; each means unfit files
        raise InputError(
            f"{folder}: cannot load a model from here ({first_line(error)}); "
            "delete it and fetch it again, or use another"
        ) from error
    return _Pretrained(model, tokenizer, str(folder))


def _check_files(folder: Path) -> None:
    """Raise ValueError for files that make transformers read other weights than this folder's."""
    if (folder / "adapter_config.json").exists():  # transformers would load the base that it names
        raise ValueError(
            "an adapter lies beside the model; merge it, or move it into a folder of its own"
        )
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = read_json(index)["weight_map"].values()
        if not all(file.endswith(".safetensors") for file in files):
            raise ValueError(f"{index.name} names files that are no safetensors")


def _load_transformers(
    folder: Path, config: "PretrainedConfig", dtype: str
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load the model and its tokenizer; ValueError for missing, unknown or misshapen weights."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        # Weights of another shape are reported in `misfits` instead of raised, with all the others.
        model, misfits = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **LOCAL,
        )
    unfit = []
    for keys in misfits.values():
        for key in keys:
            # A weight of another shape is (name, shape in the file, shape in the model).
            unfit.append(key[0] if isinstance(key, tuple) else key)
    if unfit:
        raise ValueError(f"config.json and weights do not agree on {min(unfit)}")
    return model, tokenizer


def _random(name: str) -> _Pretrained:
    """Make a backbone with random weights, the same numbers at each call."""
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it was
        # `torch.manual_seed` would seed every graphics card, too, and nothing would undo that.
        torch.default_generator.manual_seed(0)
        model = AutoModelForCausalLM.from_config(backbone_config(name), dtype=torch.float32)
    # The tokenizer knows the printable ASCII characters, so that the 13 symbols have other ids than
    # in the reduced vocabulary: `0` is 16 here and 1 there.
    file = str(CONFIGS / "ascii_tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, pad_token="<|endoftext|>")
    return _Pretrained(model, tokenizer, "random weights")
