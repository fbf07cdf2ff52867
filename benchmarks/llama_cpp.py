"""llama.cpp is a peer: a model is written as a .gguf, which its server reads.

`pip install xllamacpp` brings the server.
"""

import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from transformers import PreTrainedModel

from benchmarks import peers
from benchmarks.measure import seconds
from m2lib.model.vocabulary import PAD_ID

# Transformers' names of the weights of a block, and llama.cpp's.
BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(model: PreTrainedModel, path: Path, kind: str) -> None:
    """Write a Llama or Qwen2 as a .gguf, in which token 7 is named <7>.

    Its real names are not needed, because prompts are given as ids. kind: the type of the matrices,
    `F32`, `BF16` or `Q8_0` (8 bits); all else is float32, as llama.cpp wants it.
    """
    config = model.config
    writer = GGUFWriter(path, config.model_type)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{i}>" for i in range(config.vocab_size)])
    writer.add_token_scores([0.0] * config.vocab_size)
    writer.add_eos_token_id(PAD_ID)  # unless it is said, llama.cpp takes 2, which is a digit
    for name, weight in model.state_dict().items():
        if name == "lm_head.bias":
            continue  # the bias of a reduced head is zero until someone trains it
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # it is the embedding, which is written under that name
        stem, _, part = name.rpartition(".")
        if config.model_type == "llama" and stem.endswith(("q_proj", "k_proj")):
            weight = _interleaved(weight, config.hidden_size // config.num_attention_heads)
        type_name = kind if weight.ndim == 2 else "F32"
        gguf_type = GGMLQuantizationType[type_name]
        values = quantize(weight.float().cpu().numpy(), gguf_type)
        writer.add_tensor(f"{_name(stem)}.{part}", values, raw_dtype=gguf_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(stem: str) -> str:
    """Return llama.cpp's name of a module: model.layers.3.mlp.up_proj is its blk.3.ffn_up."""
    if stem in OUTSIDE:
        return OUTSIDE[stem]
    layer, _, module = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{BLOCK[module]}"


def _interleaved(weight: torch.Tensor, head: int) -> torch.Tensor:
    """Return a projection's rows in llama.cpp's order for a Llama.

    Of each head, llama.cpp rotates rows 2i and 2i+1 together, transformers rows i and i + head/2:
    with four rows a head, 0, 1, 2, 3 become 0, 2, 1, 3.
    """
    rows = weight.unflatten(0, (-1, 2, head // 2))
    return rows.transpose(1, 2).reshape(weight.shape)


def measured(load: Callable[[], PreTrainedModel], prompts: list[list[int]]) -> dict[str, float]:
    """Return llama.cpp's seconds for as many tokens as the other peers make, by label.

    All prompts are decoded at once, without a grammar. Without llama.cpp nothing is returned.
    load: gives a reduced model in float32, which is written in bfloat16, and in the 8 bits that
    most users choose.
    """
    if find_spec("xllamacpp") is None:
        print("llama.cpp is left out: `pip install xllamacpp` brings it", flush=True)
        return {}
    model = load()
    new_tokens = peers.NEW_TOKENS
    context = max(map(len, prompts)) + new_tokens
    durations = {}
    for kind, bits in {"BF16": "bfloat16", "Q8_0": "8 bits"}.items():
        # On Windows the file stays open, so the folder cannot be removed there.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder, "model.gguf")
            write_gguf(model, path, kind)
            peer = LlamaCpp(path, slots=len(prompts), context=context)
            work = partial(peer.generate, prompts, new_tokens)
            label = f"llama.cpp, batches of {len(prompts)}, {bits}, 13 tokens, {new_tokens} tokens"
            durations[label] = seconds(work, model.device, warm=False)
    return durations


class LlamaCpp:
    """A server of llama.cpp in this process; it computes its slots, one a prompt, together."""

    def __init__(self, path: Path, slots: int, context: int):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel = slots
        params.n_ctx = slots * context
        params.n_batch = 2048
        params.n_ubatch = 2048
        params.cpuparams.n_threads = torch.get_num_threads()
        params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.verbosity = 0
        self.server = xllamacpp.Server(params)
        self.slots = slots

    def generate(self, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        """Return greedy continuations of exactly so many tokens each, as ids."""

        def complete(prompt: list[int]) -> list[int]:
            request = {
                "prompt": prompt,
                "n_predict": new_tokens,
                "ignore_eos": True,
                "temperature": 0.0,
                "cache_prompt": False,  # each prompt is a new one, as for the other peers
            }
            response = self.server.handle_completions(request)
            text = response["choices"][0]["text"]
            # "<7><12>" is tokens 7 and 12, as `write_gguf` has named them.
            return [int(token) for token in re.findall(r"<(\d+)>", text)]

        with ThreadPoolExecutor(self.slots) as pool:
            return list(pool.map(complete, prompts))
