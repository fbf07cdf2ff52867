"""A model's folder, and what is read of it: sizes, weights and a few tokens' names.

Nothing in a folder is code to this library, and nothing in it steers how it is loaded. `config.json` is read into
`Architecture`, which knows the settings of a plain Llama or Qwen2 and no others; the weights are safetensors, the
tokenizer is tokenizer.json. Transformers is handed these, and never the folder.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from m2lib.files import InputError, first_line

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

Size = Annotated[int, Field(ge=1, le=10_000_000)]  # the largest vocabularies have 300,000 tokens
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
One = Annotated[float, Field(ge=1, le=1)]
# Angles that depend on the position alone. `dynamic` and `longrope` depend on the text's length as well.
RopeType = Literal["default", "linear", "llama3", "yarn"]
Said = TypeVar("Said", bound=BaseModel)


class Rope(BaseModel):
    """How the rotary embedding is scaled: `rope_parameters`, or `rope_scaling` in older files, of a config.json.

    What a setting means is in transformers' `modeling_rope_utils`. A setting that is not here is refused, since it may
    change the angles.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    rope_type: RopeType = "default"
    type: RopeType = "default"
    """The older name of `rope_type`."""
    rope_theta: Positive = 10_000.0
    partial_rotary_factor: One | None = None
    factor: Positive | None = None
    original_max_position_embeddings: Size | None = None
    attention_factor: Positive | None = None
    low_freq_factor: Positive | None = None
    high_freq_factor: Positive | None = None
    beta_fast: Positive | None = None
    beta_slow: Positive | None = None
    mscale: Positive | None = None
    mscale_all_dim: Positive | None = None
    truncate: bool | None = None


class Architecture(BaseModel):
    """What a config.json says of the model.

    What the fast engine does not compute is refused by the name of its setting. All else that a config.json may hold
    is not looked at: `auto_map`, `_attn_implementation` and the like have no effect.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    model_type: Literal["llama", "qwen2"]
    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Annotated[int, Field(ge=1, le=1000)]  # the deepest models have 126
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    hidden_act: Literal["silu", "swish"] = "silu"  # two names of one function
    max_position_embeddings: Size = 2048
    rms_norm_eps: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-6
    tie_word_embeddings: bool = False
    rope_parameters: Rope | None = None
    rope_scaling: Rope | None = None
    rope_theta: Positive = 10_000.0
    original_max_position_embeddings: Size | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    # These are only looked at: each at the one value that changes nothing.
    head_dim: Size | None = Field(None, exclude=True)
    """Width of a head: `hidden_size / num_attention_heads`."""
    attention_bias: bool | None = Field(None, exclude=True)
    """False in a Llama; Qwen2 has biases whatever it says."""
    mlp_bias: Literal[False] | None = Field(None, exclude=True)
    use_sliding_window: Literal[False] | None = Field(None, exclude=True)
    sliding_window: int | None = Field(None, exclude=True)
    """Not set in a Llama; Qwen2 has none unless `use_sliding_window`."""
    layer_types: list[Literal["full_attention", "attention"]] | None = Field(None, exclude=True)
    attention_chunk_size: None = Field(None, exclude=True)
    is_causal: Literal[True] | None = Field(None, exclude=True)
    partial_rotary_factor: One | None = Field(None, exclude=True)
    per_layer_config: None = Field(None, exclude=True)
    quantization_config: None = Field(None, exclude=True)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Raise ValueError for sizes that no model has, and for what only a Llama must not have."""
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads or self.num_attention_heads
        if self.hidden_size % (2 * heads):  # two coordinates are rotated together
            raise ValueError(f"hidden_size {self.hidden_size} does not give {heads} heads of an even width")
        if heads % kv_heads:
            raise ValueError(f"num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}")
        if self.head_dim not in (None, self.hidden_size // heads):
            raise ValueError(f"head_dim {self.head_dim} is not hidden_size / num_attention_heads")
        if self.model_type == "llama" and self.attention_bias:
            raise ValueError("attention_bias is True in a Llama")
        if self.model_type == "llama" and self.sliding_window is not None:
            raise ValueError(f"sliding_window is {self.sliding_window} in a Llama")
        return self


class Token(BaseModel):
    """A special token, written out in full."""

    content: str


class SpecialTokens(BaseModel):
    """What is read of tokenizer_config.json, and of special_tokens_map.json in older folders."""

    model_config = ConfigDict(strict=True, extra="ignore")

    pad_token: str | Token | None = None
    eos_token: str | Token | None = None
    added_tokens_decoder: dict[str, object] | None = None
    """Where it is there, special_tokens_map.json is not looked at."""


class GenerationSettings(BaseModel):
    """What is read of generation_config.json."""

    model_config = ConfigDict(strict=True, extra="ignore")

    sequence_bias: list[tuple[list[int], Annotated[float, Field(allow_inf_nan=False)]]] | None = None
    """Token ids, and what is added to the logit of the last of them where it would complete them."""


def read_config(path: Path) -> "PretrainedConfig":
    """The transformers config that a config.json describes.

    Parameters
    ----------
    path : Path
        Of the file.

    Returns
    -------
    PretrainedConfig
        A `LlamaConfig` or a `Qwen2Config`, made of what `Architecture` reads.

    Raises
    ------
    InputError
        For a file that cannot be read, and for a model that is not a plain Llama or Qwen2, naming the setting.
    """
    from transformers import AutoConfig

    try:
        read = Architecture.model_validate_json(path.read_bytes())
        heads = {"num_key_value_heads": read.num_key_value_heads or read.num_attention_heads}
        with quiet_transformers():
            return AutoConfig.for_model(**read.model_dump(exclude_unset=True) | heads)
    except Exception as error:  # transformers checks how the settings of RoPE fit together, and raises many kinds
        raise InputError(f"{path}: {fault(error)}; use a plain Llama or Qwen2 model") from error


def read_weights(folder: Path) -> dict[str, "torch.Tensor"]:
    """All that the safetensors of a folder hold.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    dict of str to Tensor of float
        By name, on the CPU, in the files' dtypes.

    Raises
    ------
    ValueError
        For tensors that are not floating point, one that two files hold, an adapter beside the model. Damaged files
        raise errors of many other kinds.
    """
    from safetensors.torch import load_file

    if (folder / "adapter_config.json").exists():
        raise ValueError("an adapter lies beside the model; merge it, or move it into a folder of its own")
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        more = load_file(path)
        check_floats(path, more)
        twice = min(tensors.keys() & more.keys(), default=None)
        if twice is not None:
            raise ValueError(f"{path.name} holds {twice!r:.200}, which another file holds too")
        tensors |= more
    return tensors


def read_sequence_bias(folder: Path) -> list[tuple[list[int], float]] | None:
    """The biases of a folder's generation_config.json, such as an exported model's of its 13 tokens.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    list of (list of int, float), or None
        Token ids and their bias; None where the folder has no such file, or the file no biases.

    Raises
    ------
    ValueError
        For a file that does not hold them in this form, naming it.
    """
    return _said(folder / "generation_config.json", GenerationSettings).sequence_bias


def check_floats(path: Path, tensors: dict[str, "torch.Tensor"]) -> None:
    """Raise ValueError where a tensor of a file is anything but plain floating point, such as quantised.

    Parameters
    ----------
    path : Path
        Of the file, for the message.
    tensors : dict of str to Tensor
        What it holds.
    """
    import torch

    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ValueError(f"{name!r:.200} in {path.name} is of {tensor.dtype}; it must be floating point")


def read_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder: its tokenizer.json, and which of its tokens are the pad and the end.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    PreTrainedTokenizerBase
        Whatever class the folder's files name.

    Raises
    ------
    ValueError
        Where a token's name is not text. Damaged files raise errors of many other kinds.
    """
    from transformers import PreTrainedTokenizerFast

    tokens = _said(folder / "tokenizer_config.json", SpecialTokens)
    if tokens.added_tokens_decoder is None:
        older = _said(folder / "special_tokens_map.json", SpecialTokens)
        tokens = tokens.model_copy(update={name: getattr(older, name) for name in older.model_fields_set})
    named = {"pad_token": tokens.pad_token, "eos_token": tokens.eos_token}
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        **{name: token.content if isinstance(token, Token) else token for name, token in named.items() if token},
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' bars and loading reports out of notebooks and logs; what is wrong is raised."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def fault(error: Exception) -> str:
    """What an exception says, in one line.

    Parameters
    ----------
    error : Exception
        Of this or another library.

    Returns
    -------
    str
        Its first line; of pydantic's the first field at fault, its value, and what it should be.
    """
    if not isinstance(error, ValidationError):
        return first_line(error)
    first = error.errors()[0]
    field, said = repr(".".join(map(str, first["loc"])))[1:-1], first["msg"].removeprefix("Value error, ")
    value = f" is {first['input']!r:.40}" if isinstance(first["input"], bool | int | float | str | None) else ""
    return f"{field}{value}: {said}" if field else said


def _said(path: Path, kind: type[Said]) -> Said:
    """What a file says of such settings; nothing where it is not there."""
    if not path.is_file():
        return kind()
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path.name}: {fault(error)}") from error
