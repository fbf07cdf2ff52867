"""What is read of a model's folder, and that nothing else in it has an effect."""

import builtins
import json
import os
import shutil
import socket
import sys

import pytest
import torch
from safetensors.torch import load, save_file

from m2lib.files import InputError
from m2lib.forecasting import Reference
from m2lib.forecasting.engine import Engine
from m2lib.model import backbone_config, backbone_id, load_backbone, reduce_vocabulary, text_to_ids

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip
LLAMA, QWEN = ({"model_type": kind} | SIZES for kind in ("llama", "qwen2"))
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16, "rope_theta": 500.0,
}  # fmt: skip
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LONGROPE = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}

EQUAL = {
    "llama": LLAMA,
    "qwen2": QWEN,
    "no sharing of keys": LLAMA | {"num_key_value_heads": None},
    "tied": QWEN | {"tie_word_embeddings": True},
    "an eps": LLAMA | {"rms_norm_eps": 0.1},
    "another theta": LLAMA | {"rope_theta": 100.0, "rope_scaling": None},
    "linear": LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "linear, new name": QWEN | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0}},
    "llama3": LLAMA | {"rope_parameters": LLAMA3, "max_position_embeddings": 64},
    "yarn": QWEN | {"rope_scaling": YARN},
    "yarn with a factor": LLAMA | {"rope_scaling": YARN | {"attention_factor": 0.5, "beta_fast": 8.0}},
    "its own length outside": LLAMA | {"rope_scaling": YARN, "original_max_position_embeddings": 8},
    "no window": QWEN | {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 1},
    "whole layers": QWEN | {"layer_types": ["full_attention"] * 2},
    "a width said": LLAMA | {"head_dim": 8},
    "swish": LLAMA | {"hidden_act": "swish"},
    "dropout": LLAMA | {"attention_dropout": 0.5},
}
REFUSED = {
    "use_sliding_window": QWEN | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
    "layer_types.1": QWEN | {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]},
    "sliding_window": LLAMA | {"sliding_window": 8},
    "attention_chunk_size": LLAMA | {"attention_chunk_size": 8},
    "hidden_act": LLAMA | {"hidden_act": "gelu"},
    "rope_scaling.type": LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "rope_parameters.rope_type": QWEN | {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
    "rope_scaling.rope_type": LLAMA | {"rope_scaling": LONGROPE | {"rope_type": "longrope"}},
    "rope_parameters.full_attention": QWEN | {"rope_parameters": {"full_attention": {"rope_theta": 5.0}}},
    "partial_rotary_factor": LLAMA | {"partial_rotary_factor": 0.5},
    "rope_parameters.partial_rotary_factor": LLAMA | {"rope_parameters": {"partial_rotary_factor": 0.5}},
    "attention_bias": LLAMA | {"attention_bias": True},
    "mlp_bias": LLAMA | {"mlp_bias": True},
    "head_dim": LLAMA | {"head_dim": 16},
    "hidden_size": LLAMA | {"hidden_size": 36},
    "num_key_value_heads": LLAMA | {"num_key_value_heads": 3},
    "is_causal": LLAMA | {"is_causal": False},
    "per_layer_config": LLAMA | {"per_layer_config": {"1": {"intermediate_size": 24}}},
    "quantization_config": LLAMA | {"quantization_config": {"quant_method": "fp8"}},
    "model_type": LLAMA | {"model_type": "mistral"},
}
PROMPTS = [text_to_ids("3,4;" * 20), text_to_ids("952,1034;948,1029;")]  # 80 tokens: longer than any original length


@pytest.fixture(scope="module")
def original(tmp_path_factory, save_folder):
    return save_folder(tmp_path_factory.mktemp("folders") / "model")


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


def write(folder, changes=None, file="config.json", **more):
    """Change settings in a JSON file of a folder, or replace its content."""
    path = folder / file
    if isinstance(changes, bytes):
        path.write_bytes(changes)
    else:
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(stored | (changes or {}) | more), encoding="utf-8")
    return str(folder)


def refusal(name, read=load_backbone):
    """The one line in which a folder is refused."""
    with pytest.raises(InputError) as error:
        read(name)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


@pytest.mark.parametrize("settings", EQUAL.values(), ids=EQUAL)
def test_what_is_loaded_is_computed_as_transformers_computes_it(settings, folder, tiny):
    from transformers import AutoConfig, AutoModelForCausalLM

    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32).eval()
    for parameter in theirs.parameters():  # biases and norms too: they start as 0 and 1
        torch.nn.init.normal_(parameter, std=0.3)
    ours = AutoModelForCausalLM.from_config(backbone_config(str(folder)), dtype=torch.float32).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        models = [reduce_vocabulary(model, tiny.remap) for model in (theirs, ours)]
        simple, fast = Reference(models[0], PROMPTS), Engine(models[1], PROMPTS)
        for step in range(4):
            assert torch.allclose(fast.logits, simple.logits, atol=1e-4), step
            for engine in (simple, fast):
                engine.step(torch.tensor([step + 1, 12 - step]))


@pytest.mark.parametrize(("named", "settings"), REFUSED.items(), ids=REFUSED)
def test_what_is_not_computed_is_refused_by_name(named, settings, folder):
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    for read in (backbone_config, load_backbone):
        assert f"config.json: {named}" in refusal(str(folder), read)


@pytest.fixture
def evil(folder, monkeypatch):
    """A folder with code, at a keyboard that says yes to all, on a machine that must not reach a network."""
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n", encoding="utf-8")
    asked = []
    monkeypatch.setattr(builtins, "input", lambda *_: asked.append("input") or "y")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: asked.append("network"))
    yield folder
    assert asked == []
    assert not (folder / "ran").exists()


CODE = {name: "evil.Evil" for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM")}


def test_no_code_runs_whatever_is_typed(evil):
    write(evil, auto_map=CODE, model_type="evil")
    write(evil, file="tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    for read in (backbone_config, load_backbone):
        assert "config.json: model_type is 'evil'" in refusal(str(evil), read)


def test_nothing_steers_the_loader(evil, tiny):
    kernel = "kernels-community/flash-attn3"
    steering = {
        "auto_map": CODE, "_attn_implementation": kernel, "attn_implementation": kernel, "use_kernels": True,
        "_attn_implementation_internal": kernel, "experts_implementation": kernel, "output_attentions": True,
        "fusion_config": {"patch_embeddings": True}, "transformers_weights": "evil.bin", "return_dict": False,
        "_name_or_path": "evil/evil", "torch_dtype": "evil", "architectures": ["Evil"], "attribute_map": {"a": "b"},
        "text_config": {"model_type": "evil"}, "base_model_tp_plan": {"evil": "evil"},
    }  # fmt: skip
    write(evil, steering)
    write(evil, file="tokenizer_config.json", tokenizer_class="evil.Evil", auto_map={"AutoTokenizer": ["evil.Evil"]})
    write(evil, file="generation_config.json", custom_generate="evil/evil")
    write(evil, file="model.safetensors.index.json", weight_map={"model.norm.weight": "evil.bin"})
    (evil / "evil.bin").write_bytes(b"\x80\x04cevil\nEvil\n.")
    backbone = load_backbone(str(evil), device="cpu", dtype="float32")
    ids = torch.tensor([[2, 3, 11, 4, 12]])
    assert torch.equal(backbone.model(ids).logits, tiny.model(ids).logits)
    assert backbone.remap == tiny.remap
    config = backbone_config(str(evil))
    assert (config._attn_implementation, backbone.model.config._attn_implementation) == (None, "sdpa")
    assert not [name for name in steering if name.startswith(("auto", "fusion", "text")) and hasattr(config, name)]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"model_type": "llama"}', b"x" * 10_000,
        json.dumps(LLAMA | {"rope_parameters": [1]}).encode(), json.dumps(LLAMA | {"x": 1}).encode()[:-1],
        json.dumps(LLAMA).replace("96", "9" * 5000).encode(), json.dumps(LLAMA).replace("96", "1e999").encode(),
        *(
            json.dumps(LLAMA | {field: value}).encode()
            for field in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
            for value in (0, -4, 10**12, 96.5, "96", None, True, [96], {})
        ),
        json.dumps(LLAMA | {"rms_norm_eps": float("nan")}).encode(), json.dumps(LLAMA | {"rope_theta": -1}).encode(),
        json.dumps(LLAMA | {"rope_scaling": {"type": "yarn"}}).encode(),
        json.dumps(LLAMA | {"rope_scaling": {"a\nb": 1}}).encode(), json.dumps(LLAMA | {"hidden_act": "a\nb"}).encode(),
    ],
)  # fmt: skip
def test_a_malformed_config_is_refused_in_one_line(content, folder):
    for read in (backbone_config, load_backbone):
        assert f"{folder}" in refusal(write(folder, content), read)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("instead", ["a folder", "a link that leads nowhere", "a link to itself"])
def test_what_is_no_file_is_missing(folder, file, instead):
    path = folder / file
    path.unlink()
    path.mkdir() if instead == "a folder" else path.symlink_to("nowhere" if "nowhere" in instead else file)
    for read in (backbone_config, load_backbone):
        assert f"{folder}: no {file} here" in refusal(str(folder), read)


NOT_UTF8 = os.fsdecode(b"\xff")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other names that are none")
@pytest.mark.parametrize("name", ["~nosuchuser/x", "x" * 5000, "/" + "x" * 300, f"/tmp/{NOT_UTF8}", "a\0b", "a\nb"])
def test_a_name_that_is_no_path_is_refused_in_one_line(name):
    for read in (backbone_config, load_backbone):
        assert "backbone" in refusal(name, read)


def test_a_name_too_long_for_a_folder_of_results():
    assert "is too long" in refusal("/models/" + "x" * 250, backbone_id)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="every name there is UTF-8")
def test_a_folder_whose_name_is_not_utf8_is_refused_in_one_line(folder):
    assert "not UTF-8" in refusal(str(folder.rename(folder.parent / NOT_UTF8)))


def test_weights_in_several_files(folder, tiny):
    tensors = load((folder / "model.safetensors").read_bytes())  # not mapped: the file is written anew below
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for i, part in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in part}, folder / f"model-0000{i}-of-00002.safetensors")
    ids = torch.tensor([[2, 3, 11, 4, 12]])
    assert torch.equal(load_backbone(str(folder), device="cpu", dtype="float32").model(ids).logits,
                       tiny.model(ids).logits)  # fmt: skip
    save_file({names[0]: tensors[names[0]]}, folder / "model.safetensors")
    assert f"holds {names[0]!r}, which another file holds too" in refusal(str(folder))


def test_weights_that_are_not_what_the_config_says(folder):
    tensors = load((folder / "model.safetensors").read_bytes())  # not mapped: the file is written anew below
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name].to(torch.int8)}, folder / "model.safetensors")
    assert f"{name!r} in model.safetensors is of torch.int8" in refusal(str(folder))
    save_file(tensors, folder / "model.safetensors")
    # A terabyte by the config alone: no room is made for it.
    write(folder, vocab_size=9_999_999, hidden_size=8_000_000, num_hidden_layers=99)
    assert "weights, the files hold 92," in refusal(str(folder))
    assert backbone_config(str(folder)).num_hidden_layers == 99


def test_an_adapter_beside_the_model_is_not_overlooked(folder):
    write(folder, file="adapter_config.json", base_model_name_or_path="evil/evil")
    assert "an adapter lies beside the model" in refusal(str(folder))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"pad_token": 3}', b'{"eos_token": {"content": null}}', b"\xff"])
def test_a_malformed_tokenizer_is_refused_in_one_line(content, folder):
    assert "tokenizer_config.json" in refusal(write(folder, content, "tokenizer_config.json"))
    (folder / "tokenizer_config.json").unlink()
    assert str(folder) in refusal(write(folder, content, "tokenizer.json"))


def test_the_pad_is_the_one_that_the_folder_names(folder):
    def pad():
        return load_backbone(str(folder), device="cpu").remap.backbone_ids[0]

    assert pad() == 95
    write(folder, file="tokenizer_config.json", pad_token="~")
    assert pad() == 94
    write(folder, file="special_tokens_map.json", pad_token={"content": "}", "lstrip": False})
    assert pad() == 93  # transformers lets the older file count
    write(folder, file="tokenizer_config.json", added_tokens_decoder={"95": {"content": "<|endoftext|>"}})
    assert pad() == 94  # unless the newer one is of a newer kind


@pytest.mark.parametrize("device", ["meta", "abacus", "cuda:first", "cuda:-1", "cpu\n", "cuda:99999999999999999"])
def test_a_device_that_cannot_be_used_is_refused_in_one_line(device):
    assert f"cannot use device {device!r}" in refusal("tiny", lambda name: load_backbone(name, device=device))


def test_what_lies_beside_a_gguf_is_not_looked_at(evil, monkeypatch):
    """Neither its config.json nor its tokenizer_config.json: the reader sees the file alone."""
    from transformers import AutoTokenizer

    seen = []

    def read(folder, **settings):
        seen.extend([*(path.name for path in folder.iterdir()), settings["trust_remote_code"]])
        raise OSError("enough seen")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", read)
    monkeypatch.setenv("M2_CACHE", str(evil / "cache"))
    write(evil, auto_map=CODE, model_type="evil")
    (evil / "some.gguf").write_bytes(b"GGUF")
    assert "cannot convert some.gguf" in refusal(str(evil / "some.gguf"))
    assert seen == ["model.gguf", False]
