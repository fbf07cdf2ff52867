"""llama.cpp, a peer of the benchmark, runs the same model that we run."""

import copy

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from benchmarks import bench, llama_cpp


def test_the_written_weights_are_those_of_the_model(tiny, tmp_path):
    path = tmp_path / "model.gguf"
    model = copy.deepcopy(tiny.model)
    block = model.model.layers[1]
    torch.nn.init.normal_(block.self_attn.q_proj.bias)  # `tiny` has biases of 0 everywhere

    llama_cpp.write_gguf(model, path, "F32")

    read = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    assert len(read) == len(model.state_dict()) - 1  # all but the head's bias
    np.testing.assert_array_equal(read["blk.1.ffn_up.weight"], block.mlp.up_proj.weight.numpy())
    np.testing.assert_array_equal(read["blk.1.attn_q.bias"], block.self_attn.q_proj.bias.numpy())
    np.testing.assert_array_equal(read["output.weight"], model.lm_head.weight.numpy())


def test_heads_of_a_llama_are_written_in_llama_cpps_order():
    # In a head of four rows transformers rotates rows 0 and 2 together, and rows 1 and 3;
    # llama.cpp rotates the first two of its rows together, and the last two.
    two_heads = torch.arange(8.0)[:, None]
    reordered = llama_cpp._interleaved(two_heads, head=4)
    assert reordered.flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("name", ["tiny", "smollm2"])  # a Qwen2 and a Llama
def test_llama_cpp_writes_the_same_tokens(request, tmp_path, continue_greedily, name):
    pytest.importorskip(
        "xllamacpp", reason="llama.cpp is an optional peer of the benchmark: pip install xllamacpp"
    )
    model = request.getfixturevalue(name).model
    # At this length each token is ahead of the next likeliest by 0.13 or more in its logit. At 60
    # one is ahead by 0.009, which another processor may turn round.
    prompts = [prompt[:62] for prompt in bench.prompts_of(2)]
    llama_cpp.write_gguf(model, tmp_path / "model.gguf", "F32")

    peer = llama_cpp.LlamaCpp(tmp_path / "model.gguf", slots=2, context=80)
    written = peer.generate(prompts, 8)

    assert written == [continue_greedily(model, prompt, 8) for prompt in prompts]
