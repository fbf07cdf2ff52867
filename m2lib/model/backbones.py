"""Which language model, from where, on what device and in what dtype."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from m2lib.files import InputError, first_line
from m2lib.model.vocabulary import TokenRemap
from m2lib.model.weights import BACKBONES, backbone_id, local_weights, quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CONFIGS = Path(__file__).parent / "configs"
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Backbone:
    """A loaded model. `model` has the 13-token vocabulary unless loaded with reduce=False; it is in eval mode."""

    name: str
    model: "PreTrainedModel"
    remap: TokenRemap
    weight_hash: str  # sha256 of the weight files (of the random weights, for tiny), 16 hex digits
    source: str

    @property
    def device(self) -> "torch.device":
        return self.model.device

    @property
    def dtype(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")


def load_backbone(name: str, *, device: str | None = None, dtype: str | None = None, reduce: bool = True) -> Backbone:
    """Load a backbone by its name in `weights.BACKBONES`, or from a local folder or .gguf file. Never uses the network.

    device: `cpu`, `cuda`, `mps` (default: `M2_DEVICE`, else the best there is). dtype: `float32` or `bfloat16`
    (default: `M2_DTYPE`, else bfloat16 where the device multiplies in it). reduce=False keeps the full vocabulary.
    Raises InputError where the weights are not at hand, in one line that says how to get them.
    """
    import torch

    from m2lib.model.reduction import reduce_vocabulary

    device = device or os.environ.get("M2_DEVICE") or best_device()
    dtype = dtype or os.environ.get("M2_DTYPE") or best_dtype(device)
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    if name == "tiny":
        model, tokenizer, sha256 = _tiny()
        source = "random weights"
    else:
        folder, sha256 = local_weights(name)
        model, tokenizer = _load_folder(folder, dtype)
        source = str(folder)
    try:
        model = model.to(device=device, dtype=getattr(torch, dtype)).eval()
    except (RuntimeError, AssertionError, AttributeError) as error:
        raise InputError(
            f"cannot use device {device!r} with dtype {dtype!r}: {first_line(error)}; set M2_DEVICE=cpu"
        ) from error
    remap = TokenRemap.from_tokenizer(tokenizer)
    if reduce:
        reduce_vocabulary(model, remap)
    return Backbone(backbone_id(name), model, remap, sha256, source)


def weight_hash(name: str) -> str:
    """`Backbone.weight_hash` of a backbone, without loading it."""
    return _tiny()[2] if name == "tiny" else local_weights(name)[1]


def best_device() -> str:
    """A CUDA card (this process's own, where a launcher started several), else `mps`, else `cpu`."""
    import torch

    if torch.cuda.is_available():
        local = os.environ.get("LOCAL_RANK")
        return "cuda" if local is None else f"cuda:{int(local) % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_dtype(device: str) -> str:
    """`bfloat16` where the device has instructions for it (two to four times faster), else `float32`."""
    import torch

    if device.startswith("cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.startswith("cpu"):
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 cannot tell: float32 then
        native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    else:
        native = False
    return "bfloat16" if native else "float32"


def backbone_config(name: str) -> "PretrainedConfig":
    """The transformers config of a known backbone, from m2lib/configs: shapes without weights."""
    from transformers import AutoConfig

    if name not in BACKBONES:
        folder = local_weights(name)[0]
        try:
            return AutoConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: cannot read a model's config from here ({first_line(error)})") from error
    settings = json.loads((CONFIGS / f"{name}.json").read_text())
    return AutoConfig.for_model(**settings)


def meta_model(config: "PretrainedConfig") -> "PreTrainedModel":
    """A model of that shape on the meta device: every parameter has a shape and none has memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()  # transformers 5.0 leaves the head untied on the meta device
    return model


def parameter_counts(model: "PreTrainedModel") -> dict[str, int]:
    """Parameters by part, in the order of the forward pass; a head tied to the embedding counts once, as embedding."""
    counts = dict.fromkeys(("embedding", "attention", "MLP", "norms", "head"), 0)
    for path, parameter in model.named_parameters():  # yields shared parameters once
        if "embed_tokens" in path:
            part = "embedding"
        elif "lm_head" in path:
            part = "head"
        elif "norm" in path:
            part = "norms"
        else:
            part = "MLP" if ".mlp." in path else "attention"
        counts[part] += parameter.numel()
    return counts


def _load_folder(folder: Path, dtype: str) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    try:
        with quiet_transformers():
            # The class is named because AutoTokenizer may rebuild one from config.json instead of reading the file.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
            model, loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        # transformers fills what it does not find with random numbers and goes on.
        unfit = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in loaded.get(kind, ()))
        if unfit:
            raise ValueError(f"config.json wants weights that the files do not hold, such as {unfit[0]}")
    except Exception as error:  # transformers and safetensors raise many kinds; each means that the files are unfit
        raise InputError(
            f"{folder}: cannot load a model from here ({first_line(error)}); download it again or use another"
        ) from error
    return model, tokenizer


def _tiny() -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", str]:
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(backbone_config("tiny"), dtype=torch.float32)
    # Printable ASCII, so that the 13 symbols sit at other ids than in the reduced vocabulary.
    characters = {chr(32 + i): i for i in range(95)} | {"<|endoftext|>": 95}
    core = Tokenizer(models.WordLevel(characters, unk_token="<|endoftext|>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|endoftext|>")
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return model, tokenizer, digest.hexdigest()[:16]
