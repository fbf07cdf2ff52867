"""llama.cpp as a peer: a model is written as a .gguf, which its server reads; `pip install
xllamacpp` brings both."""

import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from transformers import PreTrainedModel

from benchmarks import peers
from benchmarks.measure import seconds
from m2lib.model.vocabulary import PAD_ID

# Ours (transformers') and llama.cpp's names of the weights of a block.
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
    """Write a Llama or Qwen2 with made-up names of tokens, since prompts are given as ids.

    kind: `F32`, `BF16` or `Q8_0` (8 bits), of the matrices; all else is float32, as llama.cpp wants
    it.
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
        if name == "lm_head.bias" or (name == "lm_head.weight" and config.tie_word_embeddings):
            continue  # the bias of a reduced head is zero until someone trains it
        stem, _, part = name.rpartition(".")
        if config.model_type == "llama" and stem.endswith(("q_proj", "k_proj")):
            weight = _interleaved(weight, config.hidden_size // config.num_attention_heads)
        type_ = GGMLQuantizationType[kind if weight.ndim == 2 else "F32"]
        writer.add_tensor(
            f"{_name(stem)}.{part}", quantize(weight.float().cpu().numpy(), type_), raw_dtype=type_
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(stem: str) -> str:
    """model.layers.3.mlp.up_proj -> blk.3.ffn_up"""
    if stem in OUTSIDE:
        return OUTSIDE[stem]
    layer, _, what = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{BLOCK[what]}"


def _interleaved(weight: torch.Tensor, head: int) -> torch.Tensor:
    """Rows of each head in llama.cpp's order for a Llama: it turns rows 2i and 2i+1, transformers i
    and i + head/2."""
    rows = weight.unflatten(0, (-1, 2, head // 2))
    return rows.transpose(1, 2).reshape(weight.shape)


def measured(load: Callable[[], PreTrainedModel], prompts: list[list[int]]) -> dict[str, float]:
    """Seconds of as many tokens as the other peers make, all prompts at once, no grammar; nothing
    where it is missing.

    load: gives a reduced model in float32; it is written in bfloat16, and in the 8 bits that most
    use there.
    """
    if find_spec("xllamacpp") is None:
        print("llama.cpp is left out: `pip install xllamacpp` brings it", flush=True)
        return {}
    model, took, new = load(), {}, peers.NEW_TOKENS
    for kind, bits in {"BF16": "bfloat16", "Q8_0": "8 bits"}.items():
        with tempfile.TemporaryDirectory(
            ignore_cleanup_errors=True
        ) as folder:  # the file stays open on Windows
            write_gguf(model, path := Path(folder, "model.gguf"), kind)
            peer = LlamaCpp(path, slots=len(prompts), context=max(map(len, prompts)) + new)
            label = f"llama.cpp, batches of {len(prompts)}, {bits}, 13 tokens, {new} tokens"
            took[label] = seconds(
                lambda peer=peer: peer.generate(prompts, new), model.device, warm=False
            )
    return took


class LlamaCpp:
    """A server of llama.cpp in this process, with the given number of slots, which it computes
    together."""

    def __init__(self, path: Path, slots: int, context: int):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel = slots
        params.n_ctx = slots * context
        params.n_batch = params.n_ubatch = 2048
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.verbosity = 0
        self.server, self.slots = xllamacpp.Server(params), slots

    def generate(self, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of exactly so many tokens each."""

        def one(prompt: list[int]) -> list[int]:
            request = {
                "prompt": prompt,
                "n_predict": new_tokens,
                "ignore_eos": True,
                "temperature": 0.0,
            }
            request["cache_prompt"] = False  # each is a new one, as for the other peers
            text = self.server.handle_completions(request)["choices"][0]["text"]
            return [int(token) for token in re.findall(r"<(\d+)>", text)]

        with ThreadPoolExecutor(self.slots) as pool:
            return list(pool.map(one, prompts))
