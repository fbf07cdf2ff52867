"""The benchmark's parts, on the smallest model; `make bench` runs it whole."""

import json

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from benchmarks import bench, llama_cpp, measure, openvino
from m2lib.accounting.flops import executed_pass, forecast_flops
from m2lib.accounting.shape import Shape, total
from m2lib.decoding.engine import BareModel

LIMITS = {"flops": 1e11, "bytes": 1e10}


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setenv("M2_DEVICE", "cpu")
    monkeypatch.setenv("M2_RECOMPUTE", "0")  # the benchmark sets it; what was here comes back


def test_tables_compare_with_the_last_row(monkeypatch):
    monkeypatch.setattr("benchmarks.peers.NEW_TOKENS", 5)
    rows = bench.decode_rows("tiny", "float32", 2, LIMITS)
    lines = bench.table(rows, "2 series").splitlines()
    assert [line.count("|") for line in lines] == [5] * (2 + len(rows))
    assert lines[-1].startswith("| m2lib, float32")
    assert "1 series measured" in lines[2]
    json.dumps(rows)
    rows = [bench._scaled_row("a", 3.0, 2, 4), bench._row("ours", 2.0, limit=1.0)]
    assert bench.table(rows, "t").splitlines()[2:] == [
        "| a (2 series measured) | 6.00 | 3.0 |  |",
        "| ours | 2.00 |  | 50% |",
    ]


def test_training_steps_are_timed_and_follow_the_plain_loop():
    took, losses = bench.our_steps("tiny", "float32", 4)
    plain_took, plain = bench.plain_steps(
        bench.load("tiny", "float32")[0], bench.training_windows(), bench.train_config(4)
    )
    assert took > 0 < plain_took
    assert losses == pytest.approx(plain, abs=1e-4)


def test_limit_is_the_sum_of_its_parts(tiny):
    shape = Shape.of(tiny.model.config)
    one = total(executed_pass(shape, 1, 0, 0))
    kept = 2 * shape.layers * shape.kv_width * 4
    # prefills of 30 and 40; a step of both rows at 31 and 41 keys, one of the second alone at 42
    prefill = sum(total(forecast_flops(shape, n, 1, convention="executed")) for n in (30, 40))
    expected = prefill / 1e11 + (31 + 41 + 42) * kept / 1e10
    expected += max(2 * one / 1e11, one * 2 / 1e10) + max(one / 1e11, one * 2 / 1e10)
    assert bench.decode_limit(shape, [30, 40], [2, 3], tiny.model, LIMITS) == pytest.approx(
        expected
    )


def test_llama_cpp_reads_the_weights_that_are_written_for_it(tiny, tmp_path):
    llama_cpp.write_gguf(tiny.model, tmp_path / "model.gguf", "F32")
    read = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    block = tiny.model.model.layers[1]
    assert len(read) == len(tiny.model.state_dict()) - 1  # all but the head's bias
    np.testing.assert_array_equal(read["blk.1.ffn_up.weight"], block.mlp.up_proj.weight.numpy())
    np.testing.assert_array_equal(read["output.weight"], tiny.model.lm_head.weight.numpy())
    np.testing.assert_array_equal(read["blk.1.attn_q.bias"], block.self_attn.q_proj.bias.numpy())


def test_heads_of_a_llama_are_written_in_llama_cpps_order():
    # two heads of four rows: transformers turns rows 0 and 2, and 1 and 3, llama.cpp 0 and 1, and 2
    # and 3
    rows = torch.arange(8.0)[:, None]
    assert llama_cpp._interleaved(rows, head=4).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("name", ["tiny", "smollm2"])  # a Qwen2 and a Llama
def test_llama_cpp_makes_the_same_tokens(request, tmp_path, name):
    pytest.importorskip(
        "xllamacpp", reason="llama.cpp is an optional peer of the benchmark: pip install xllamacpp"
    )
    model = request.getfixturevalue(name).model
    prompts = [prompt[:60] for prompt in bench.prompts_of(2)]
    llama_cpp.write_gguf(model, tmp_path / "model.gguf", "F32")
    found = llama_cpp.LlamaCpp(tmp_path / "model.gguf", slots=2, context=80).generate(prompts, 8)
    for prompt, tokens in zip(prompts, found, strict=True):
        given = torch.tensor([prompt])
        settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
        own = model.generate(given, attention_mask=torch.ones_like(given), **settings)
        assert tokens == own[0, len(prompt) :].tolist()


@pytest.mark.parametrize("missing", ["openvino", "nncf"])
def test_without_openvino_nothing_is_measured_and_one_line_says_so(monkeypatch, capsys, missing):
    present = {"openvino": "found", "nncf": "found", missing: None}
    monkeypatch.setattr(openvino, "find_spec", present.get)
    assert openvino.measured(lambda: pytest.fail("a model is loaded"), [[1]], [1], dict) == {}
    assert "pip install openvino nncf" in capsys.readouterr().out


def test_openvino_and_ours_take_turns_and_the_faster_one_counts(monkeypatch):
    monkeypatch.setattr(openvino, "find_spec", lambda _: "found")
    monkeypatch.setattr("benchmarks.peers.NEW_TOKENS", 7)
    calls = []

    class Peer:
        def __init__(self, model):
            assert model == "a model"

        def generate(self, prompts, new_tokens):
            calls.append(("peer", len(prompts), new_tokens))

    def ours(prompts, new_tokens):
        calls.append(("ours", len(prompts), new_tokens))

    times = iter([5.0, 3.0, 4.0, 2.0, 9.0, 6.0, 8.0, 7.0])
    monkeypatch.setattr(openvino, "OpenVino", Peer)
    monkeypatch.setattr(openvino, "seconds", lambda work, *_, **__: work() or next(times))
    took = openvino.measured(lambda: "a model", [[1]] * 3, [1, 3], lambda: {"m2lib": ours})
    assert calls[:2] == [("peer", 1, 2), ("ours", 1, 2)]  # they warm up
    assert calls[2:6] == [("peer", 1, 7), ("ours", 1, 7)] * 2
    assert calls[6:] == [("peer", 3, 7), ("ours", 3, 7)] * 2
    assert took == {"OpenVINO, 8 bits": {1: 4.0, 3: 8.0}, "m2lib": {1: 2.0, 3: 6.0}}


def test_ours_beside_openvino_writes_neither_fewer_nor_more_tokens(tiny):
    found = bench.fixed_tokens(BareModel(tiny.model))(bench.prompts_of(2), 30)
    assert [len(tokens) for tokens in found] == [30, 30]


def test_table_beside_openvino_compares_equal_numbers_of_series():
    seconds = {"OpenVINO, 8 bits": {1: 3.0, 4: 8.0}, "m2lib, float32": {1: 2.0, 4: 10.0}}
    tokens = {"new": 220, "shortest": 578, "longest": 657}
    table = bench.openvino_table(
        {"backbone": "tiny", "openvino": {"tokens": tokens, "seconds": seconds}}
    )
    head, rule, peer, ours = table.splitlines()
    assert rule == "|---|---|---|"
    assert "220 tokens each, after prompts of 578 to 657 | 1 series | 4 series |" in head
    assert peer == "| OpenVINO, 8 bits | 3.00 | 8.00 |"
    assert ours == "| m2lib, float32 | 2.00 (1.5 times) | 10.00 (0.8 times) |"


@pytest.mark.parametrize("name", ["tiny", "smollm2"])  # a Qwen2 and a Llama
def test_openvino_makes_the_same_tokens_and_fuses_attention_with_the_cache(request, name):
    for package in ("openvino", "nncf"):
        pytest.importorskip(
            package,
            reason="OpenVINO is an optional peer of the benchmark: pip install openvino nncf",
        )
    model = request.getfixturevalue(name).model
    long, short = bench.prompts_of(2)
    prompts = [long[:60], short[:47]]  # pads stand on the left of the second
    peer = openvino.OpenVino(model, exact=True)
    # Had the runtime not put attention and cache together, each step would take several times as
    # long, and no layer would have this operation.
    operations = peer.request.get_compiled_model().get_runtime_model().get_ops()
    types = [operation.get_rt_info()["layerType"].astype(str) for operation in operations]
    assert types.count("ScaledDotProductAttention") == model.config.num_hidden_layers
    found = peer.generate(prompts, 8)
    for prompt, tokens in zip(prompts, found, strict=True):
        given = torch.tensor([prompt])
        settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
        own = model.generate(given, attention_mask=torch.ones_like(given), **settings)
        assert tokens == own[0, len(prompt) :].tolist()


def test_machine_rates_are_plausible(tiny):
    device = torch.device("cpu")
    assert 1e8 < measure.product_rate(Shape.of(tiny.model.config), torch.float32, device, 64) < 1e14
    assert measure.seconds(lambda: sum(range(1000)), device, repeats=2) > 0


def test_peak_memory_is_the_childs_own():
    held = torch.ones(2**28)  # a gigabyte of the parent's does not count
    assert 0.05 < measure.peak_memory(sum, [1, 2]) < 0.9
    assert held.sum() == 2**28
    # half a gigabyte, held for an instant
    assert 0.55 < measure.peak_memory(torch.ones, 2**27) < 1.4


def test_the_record_names_the_device_that_is_asked_for_and_stays_in_its_folder(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    # a card here: M2_DEVICE=cpu keeps off it
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(bench, "memory", lambda *_: {})
    monkeypatch.setattr(bench, "memory_table", lambda _: "")
    monkeypatch.setattr("sys.argv", ["bench", "--memory", "--backbone", "/elsewhere/my-model"])
    bench.main()
    (path,) = (tmp_path / "bench").iterdir()
    assert path.name == "my-model-cpu-memory.json"
    assert json.loads(path.read_text(encoding="utf-8"))["device"].startswith("cpu: ")
