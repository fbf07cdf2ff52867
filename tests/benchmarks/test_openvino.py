"""OpenVINO, a peer of the benchmark, runs the same model that we run, and is timed fairly."""

import pytest

from benchmarks import bench, openvino


@pytest.mark.parametrize("missing", ["openvino", "nncf"])
def test_without_openvino_nothing_is_measured_and_one_line_says_so(monkeypatch, capsys, missing):
    installed = {"openvino": "found", "nncf": "found"} | {missing: None}
    monkeypatch.setattr(openvino, "find_spec", installed.get)

    def load():
        pytest.fail("a model is loaded")

    seconds = openvino.measured(load, prompts=[[1]], counts=[1], ours=dict)

    assert seconds == {}
    assert "pip install openvino nncf" in capsys.readouterr().out


def test_openvino_and_ours_take_turns_and_the_faster_turn_counts(monkeypatch):
    new_tokens = 7
    calls = []  # who wrote, for how many prompts, and how many tokens each

    class Peer:
        def __init__(self, model):
            assert model == "a model"

        def generate(self, prompts, new_tokens):
            calls.append(("peer", len(prompts), new_tokens))

    def ours(prompts, new_tokens):
        calls.append(("ours", len(prompts), new_tokens))

    # Two turns of each with one series, and then two turns of each with three.
    times = iter([5.0, 3.0, 4.0, 2.0, 9.0, 6.0, 8.0, 7.0])

    def seconds(work, device, warm):
        work()
        return next(times)

    monkeypatch.setattr(openvino, "find_spec", lambda _: "found")
    monkeypatch.setattr("benchmarks.peers.NEW_TOKENS", new_tokens)
    monkeypatch.setattr(openvino, "OpenVino", Peer)
    monkeypatch.setattr(openvino, "seconds", seconds)

    took = openvino.measured(
        lambda: "a model", prompts=[[1]] * 3, counts=[1, 3], ours=lambda: {"m2lib": ours}
    )

    warm_up = [("peer", 1, 2), ("ours", 1, 2)]
    with_one_series = [("peer", 1, new_tokens), ("ours", 1, new_tokens)]
    with_three = [("peer", 3, new_tokens), ("ours", 3, new_tokens)]
    assert calls == warm_up + 2 * with_one_series + 2 * with_three
    assert took == {"OpenVINO, 8 bits": {1: 4.0, 3: 8.0}, "m2lib": {1: 2.0, 3: 6.0}}


@pytest.mark.parametrize("name", ["tiny", "smollm2"])  # a Qwen2 and a Llama
def test_openvino_writes_the_same_tokens_and_fuses_attention_with_the_cache(
    request, continue_greedily, name
):
    for package in ("openvino", "nncf"):
        pytest.importorskip(
            package,
            reason="OpenVINO is an optional peer of the benchmark: pip install openvino nncf",
        )
    model = request.getfixturevalue(name).model
    long, short = bench.prompts_of(2)
    prompts = [long[:60], short[:47]]  # pads stand on the left of the second
    peer = openvino.OpenVino(model, exact=True)

    written = peer.generate(prompts, 8)
    assert written == [continue_greedily(model, prompt, 8) for prompt in prompts]

    # Had the runtime not put attention and cache together, each step would take several times as
    # long, and no layer would have this operation.
    operations = peer.request.get_compiled_model().get_runtime_model().get_ops()
    types = [operation.get_rt_info()["layerType"].astype(str) for operation in operations]
    assert types.count("ScaledDotProductAttention") == model.config.num_hidden_layers
