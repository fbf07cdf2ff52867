"""Which language model, from where, on what device and in what dtype.

`load_backbone` brings a whole model; `backbone_config` and `meta_model` give its shape without its weights.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from m2lib import settings
from m2lib.files import InputError, first_line, user_path
from m2lib.model.devices import DTYPES, chosen_device, chosen_dtype
from m2lib.model.folders import quiet_transformers, read_config, read_sequence_bias, read_tokenizer, read_weights
from m2lib.model.vocabulary import TokenRemap
from m2lib.model.weights import BACKBONES, backbone_id, is_random, local_weights

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CONFIGS = Path(__file__).parent / "configs"  # the shapes of the known backbones, one JSON each
# What a model's folder may hold beside its weights and its config.json; the first alone says how text is cut.
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"),
)
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
"""How far a device's logits may be from the CPU's, as a share of the largest, by dtype."""


@dataclass(frozen=True)
class Backbone:
    """A loaded model and where it came from."""

    name: str
    """The name that results are filed under (`weights.backbone_id`)."""
    model: "PreTrainedModel"
    """In eval mode; it has the 13-token vocabulary unless loaded with reduce=False."""
    remap: TokenRemap
    """The model's own ids of the 13 tokens."""
    weight_hash: str
    """16 hex digits of a sha256: of the weight files (of the .gguf that they were converted from), or of the random
    weights."""
    source: str
    """The folder that the weights were read from, or `random weights`."""
    loaded_by: str
    """What `load_backbone` takes to load it again, from any folder: a known name, or a path from the root."""

    @property
    def device(self) -> "torch.device":
        """Where the model computes.

        Returns
        -------
        torch.device
            The device of its weights.
        """
        return self.model.device

    @property
    def dtype(self) -> str:
        """What the model computes in.

        Returns
        -------
        str
            The dtype of its weights, `float32` or `bfloat16`.
        """
        return str(self.model.dtype).removeprefix("torch.")


def load_backbone(name: str, *, device: str | None = None, dtype: str | None = None, reduce: bool = True) -> Backbone:
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
        Where the weights are not at hand, in one line that says how to get them; where they or the tokenizer do not
        fit; for a dtype or a device that cannot be used, `mps` also where its logits are not the CPU's.
    """
    import torch

    from m2lib.model.reduction import reduce_vocabulary

    device = device or chosen_device()
    may_be = settings.SETTINGS["M2_DEVICE"]  # the same for an argument: `meta`, say, would load and then not compute
    if not re.fullmatch(may_be.pattern, device):
        raise InputError(f"cannot use device {device!r}: it may be {may_be.may_be}")
    dtype = dtype or chosen_dtype(device)
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    if is_random(name):
        model, tokenizer, sha256 = _random(name)
        source = "random weights"
    else:
        folder, sha256 = local_weights(name)
        model, tokenizer = _load_folder(folder, dtype)
        source = str(folder)
    remap = TokenRemap.from_tokenizer(tokenizer)
    try:
        model = _moved(model.to(getattr(torch, dtype)).eval(), device, remap)
    except (RuntimeError, AssertionError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"cannot use device {device!r} with dtype {dtype!r}: {first_line(error)}; set M2_DEVICE=cpu"
        ) from error
    if reduce:
        reduce_vocabulary(model, remap)
    loaded_by = name if name in BACKBONES else str(user_path(name, "the backbone").absolute())
    return Backbone(backbone_id(name), model, remap, sha256, source, loaded_by)


def weight_hash(name: str) -> str:
    """`Backbone.weight_hash` of a backbone, without loading it.

    Parameters
    ----------
    name : str
        As in `load_backbone`.

    Returns
    -------
    str
        16 hex digits.
    """
    return _random(name)[2] if is_random(name) else local_weights(name)[1]


def backbone_config(name: str) -> "PretrainedConfig":
    """The transformers config of a backbone: shapes without weights.

    Parameters
    ----------
    name : str
        As in `load_backbone`. A known name is read from m2lib/model/configs, so its weights need not be here.

    Returns
    -------
    PretrainedConfig
        Of the full model, before its vocabulary is reduced.

    Raises
    ------
    InputError
        Where a path holds no model, or one that is not a plain Llama or Qwen2, naming the setting.
    """
    return read_config(CONFIGS / f"{name}.json" if name in BACKBONES else local_weights(name)[0] / "config.json")


def meta_model(config: "PretrainedConfig") -> "PreTrainedModel":
    """A model on the meta device: every parameter has a shape and none has memory.

    Parameters
    ----------
    config : PretrainedConfig
        The model's shape.

    Returns
    -------
    PreTrainedModel
        With its head tied to the embedding where the config says so.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def parameter_counts(model: "PreTrainedModel") -> dict[str, int]:
    """How many parameters each part of a model has.

    Parameters
    ----------
    model : PreTrainedModel
        A Llama- or Qwen2-shaped model, on any device, meta too.

    Returns
    -------
    dict of str to int
        The counts of `embedding`, `attention`, `MLP`, `norms` and `head`, in the order of the forward pass. A head
        tied to the embedding counts once, as embedding.
    """
    counts = dict.fromkeys(("embedding", "attention", "MLP", "norms", "head"), 0)
    for path, parameter in model.named_parameters():  # yields shared parameters once
        if "embed_tokens" in path:
            part = "embedding"
        elif "lm_head" in path:
            part = "head"
        elif "norm" in path:
            part = "norms"
        else:  # such as model.layers.0.mlp.up_proj.weight, model.layers.0.self_attn.q_proj.weight
            part = "MLP" if ".mlp." in path else "attention"
        counts[part] += parameter.numel()
    return counts


def save_tokenizer(name: str, folder: Path) -> None:
    """Write a backbone's own tokenizer, of its full vocabulary, into a folder.

    Parameters
    ----------
    name : str
        As in `load_backbone`.
    folder : Path
        It is there already. Files are copied as they are; those of a random backbone are made.
    """
    if is_random(name):
        _random(name)[1].save_pretrained(folder)
        return
    source = local_weights(name)[0]
    for file in TOKENIZER_FILES:
        if (source / file).is_file():
            shutil.copyfile(source / file, folder / file)


def _load_folder(folder: Path, dtype: str) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The model and the tokenizer of a folder; InputError where its files do not hold both."""
    import torch
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM

    config = read_config(folder / "config.json")
    try:
        with quiet_transformers():
            tokenizer, tensors = read_tokenizer(folder), read_weights(folder)
            # Transformers makes room for weights that it does not find, and fills it with random numbers. How much
            # room a config.json may ask for is bounded by what the files hold.
            wanted, held = sum(parameter_counts(meta_model(config)).values()), sum(map(torch.numel, tensors.values()))
            if wanted > held:
                raise ValueError(f"config.json describes {wanted:,} weights, the files hold {held:,}")
            model, loaded = {"llama": LlamaForCausalLM, "qwen2": Qwen2ForCausalLM}[config.model_type].from_pretrained(
                None,  # no folder: all that transformers gets to see has been read and checked
                config=config,
                state_dict=tensors,
                dtype=getattr(torch, dtype),
                attn_implementation="sdpa",  # PyTorch's own kernels
                output_loading_info=True,
            )
        unfit = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in loaded.get(kind, ()))
        if unfit:
            raise ValueError(f"config.json wants weights that the files do not hold, such as {unfit[0]}")
        model.generation_config.sequence_bias = read_sequence_bias(folder)
    except Exception as error:  # transformers and safetensors raise many kinds; each means that the files are unfit
        raise InputError(
            f"{folder}: cannot load a model from here ({first_line(error)}); download it again or use another"
        ) from error
    return model, tokenizer


def _moved(model: "PreTrainedModel", device: str, remap: TokenRemap) -> "PreTrainedModel":
    """The model on a device. ArithmeticError where a Mac's graphics processor computes other logits than the CPU."""
    if device != "mps":
        return model.to(device)
    expected, found = _logits(model, remap), _logits(model.to(device), remap)
    difference, largest = (found - expected).abs().max().item(), expected.abs().max().item()
    if not difference <= TOLERANCE[str(model.dtype).removeprefix("torch.")] * largest:  # not so, too, where it is NaN
        raise ArithmeticError(
            f"its logits are up to {difference:.2g} from the CPU's, the largest of which is {largest:.2g}"
        )
    return model


def _logits(model: "PreTrainedModel", remap: TokenRemap) -> "torch.Tensor":
    """What follows the prompt `0123456789,;`: (1, 12, the full vocabulary), float32, on the CPU."""
    import torch

    prompt = torch.tensor([remap.backbone_ids[1:]], device=model.device)
    with torch.inference_mode():
        return model(prompt, use_cache=False).logits.float().cpu()


def _random(name: str) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", str]:
    """A backbone of random weights, the same at each call: its model, its tokenizer and its weight hash."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing had been drawn here
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(backbone_config(name), dtype=torch.float32)
    # Printable ASCII, so that the 13 symbols sit at other ids than in the reduced vocabulary: `0` is 16 here, 1 there.
    characters = {chr(32 + i): i for i in range(95)} | {"<|endoftext|>": 95}
    core = Tokenizer(models.WordLevel(characters, unk_token="<|endoftext|>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|endoftext|>")
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return model, tokenizer, digest.hexdigest()[:16]
