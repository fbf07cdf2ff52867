import copy
import json
import re

import pytest
import torch
from safetensors.torch import load, save_file

from m2lib.files import InputError
from m2lib.model.adapter_files import load_adapter, save_adapter
from m2lib.model.backbones import backbone_config, load_backbone, meta_model
from m2lib.model.lora import ALL_TARGETS, TARGETS, LoRALinear, inject_lora, lora_layers, merge_lora, trainable
from m2lib.model.reduction import reduce_vocabulary
from m2lib.model.vocabulary import TokenRemap, text_to_ids

IDS = torch.tensor([text_to_ids("952,1034;948,1029;"), text_to_ids("12,7;1034,952;102;")])


@pytest.fixture
def model(tiny):
    return copy.deepcopy(tiny.model)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def with_random_adapter(model, rank=3, alpha=6.0, targets=TARGETS):
    inject_lora(model, rank, alpha, targets=targets, generator=seeded())
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.normal_(std=0.3, generator=seeded(1))
        model.lm_head.bias.normal_(generator=seeded(2))
    return model


def test_layer_by_hand():
    base = torch.nn.Linear(2, 1, bias=True)
    layer = LoRALinear(base, rank=1, alpha=3)
    with torch.no_grad():
        for parameter, value in ((base.weight, [[1.0, 2.0]]), (base.bias, [0.5])):
            parameter.copy_(torch.tensor(value))
        layer.lora_A.copy_(torch.tensor([[1.0, -1.0]]))
        layer.lora_B.copy_(torch.tensor([[2.0]]))
    # W x + b = 5 + 8 + 0.5; (alpha / r) B A x = 3 * 2 * (5 - 4)
    assert layer(torch.tensor([5.0, 4.0])).item() == 13.5 + 6
    assert layer.merged()(torch.tensor([5.0, 4.0])).item() == 19.5
    with pytest.raises(ValueError, match="rank must be at least 1"):
        LoRALinear(base, 0, 1)


def test_identity_at_injection(model):
    before = model(IDS).logits
    inject_lora(model, rank=4)
    assert torch.equal(model(IDS).logits, before)
    assert set(lora_layers(model)) == {
        f"model.layers.{i}.self_attn.{name}" for i in (0, 1) for name in ("q_proj", "v_proj")
    }
    assert all(layer.alpha == layer.rank == 4 for layer in lora_layers(model).values())


def test_one_step_moves_only_the_adapter_and_the_bias(model):
    inject_lora(model, rank=4)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-2, weight_decay=0)
    for _ in range(2):  # in the first step B is zero, so that no gradient reaches A
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(trainable(model))
    assert {name.rpartition(".")[2] for name in moved} == {"lora_A", "lora_B", "bias"}
    assert "lm_head.bias" in moved


CHOICES = pytest.mark.parametrize("targets", [TARGETS, ALL_TARGETS, ("k_proj", "o_proj", "up_proj")])


@CHOICES
def test_merged_is_unmerged(model, targets):
    with_random_adapter(model, targets=targets)
    with torch.no_grad():
        before = model(IDS).logits
        merge_lora(model)
        after = model(IDS).logits
    assert not lora_layers(model)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()
    with pytest.raises(ValueError, match="no LoRA layers to merge"):
        merge_lora(model)


def test_injection_does_not_nest(model):
    inject_lora(model, rank=2)
    with pytest.raises(ValueError, match="has LoRA layers already"):
        inject_lora(model, rank=2)
    assert len(lora_layers(model)) == 4
    with pytest.raises(ValueError, match="no linear layers named w"):
        inject_lora(merge_lora(model), rank=2, targets=("w",))


def test_trainable_parameters_of_the_reports_model():
    model = meta_model(backbone_config("qwen2.5-0.5b"))
    reduce_vocabulary(model, TokenRemap((151643, *range(15, 25), 11, 26)))
    inject_lora(model, rank=2)
    assert sum(parameter.numel() for parameter in trainable(model).values()) == 135_168 + 13


def test_seed_decides_the_start(model):
    one, two, other = (inject_lora(copy.deepcopy(model), 2, generator=seeded(seed)) for seed in (0, 0, 1))
    name = "model.layers.1.self_attn.q_proj.lora_A"
    assert torch.equal(one.get_parameter(name), two.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_adapters_are_float32_beside_bfloat16_weights():
    model = inject_lora(load_backbone("tiny", device="cpu", dtype="bfloat16").model, rank=2)
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    model(IDS, labels=IDS).loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in trainable(model).values())


@CHOICES
def test_saved_adapter_comes_back(model, tmp_path, targets):
    fresh = copy.deepcopy(model)
    with_random_adapter(model, targets=targets)
    save_adapter(model, tmp_path, "tiny")
    load_adapter(fresh, tmp_path)
    assert torch.equal(fresh(IDS).logits, model(IDS).logits)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (3, 6.0, sorted(targets))
    with pytest.raises(ValueError, match="no LoRA layers to save"):
        save_adapter(merge_lora(fresh), tmp_path, "tiny")


@pytest.mark.parametrize(
    ("backbone", "base"),
    [("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"), ("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct"),
     ("tiny", "tiny"), ("my-model", "my-model")],
)  # fmt: skip
def test_an_adapter_names_its_base_as_the_hub_does(model, tmp_path, backbone, base):
    save_adapter(with_random_adapter(model), tmp_path, backbone)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == base


@CHOICES
def test_our_adapter_loads_in_peft(model, tmp_path, targets):
    from peft import PeftModel

    plain = copy.deepcopy(model)
    with_random_adapter(model, targets=targets)
    save_adapter(model, tmp_path, "tiny")
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(plain, tmp_path)(IDS).logits
        ours = model(IDS).logits - model.lm_head.bias
    assert torch.allclose(theirs, ours, atol=1e-5, rtol=0)


@CHOICES
def test_pefts_adapter_loads_in_ours(model, tmp_path, targets):
    from peft import LoraConfig, get_peft_model

    plain = copy.deepcopy(model)
    config = LoraConfig(r=3, lora_alpha=8, target_modules=list(targets), init_lora_weights=False)
    peft_model = get_peft_model(model, config)
    peft_model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.allclose(load_adapter(plain, tmp_path)(IDS).logits, peft_model(IDS).logits, atol=1e-5, rtol=0)
    assert len(lora_layers(plain)) == 2 * len(targets)


def test_unfit_adapters_are_named_and_leave_the_model_alone(model, smollm2, tmp_path):
    before = model(IDS).logits
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}: not a readable LoRA adapter")):
        load_adapter(model, tmp_path)
    other = with_random_adapter(copy.deepcopy(model))
    save_adapter(other, tmp_path, "tiny")
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 5}), encoding="utf-8")
    with pytest.raises(InputError, match="belongs to another model"):
        load_adapter(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_rslora": True}), encoding="utf-8")
    with pytest.raises(InputError, match="sets use_rslora, which this library does not read"):
        load_adapter(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["w"]}), encoding="utf-8")
    with pytest.raises(InputError, match="no linear layers named w"):
        load_adapter(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"half a file")
    with pytest.raises(InputError, match="not a readable LoRA adapter"):
        load_adapter(model, tmp_path)
    assert not lora_layers(model)
    assert torch.equal(model(IDS).logits, before)


@pytest.fixture
def adapter(model, tmp_path):
    """A folder with an adapter of the model's."""
    save_adapter(with_random_adapter(copy.deepcopy(model)), tmp_path / "adapter", "tiny")
    return tmp_path / "adapter"


def refusal(model, folder):
    """The one line in which an adapter is refused; the model is then as it was."""
    before = dict(model.named_parameters())
    with pytest.raises(InputError) as error:
        load_adapter(model, folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert dict(model.named_parameters()).keys() == before.keys()
    return str(error.value)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors", "head_bias.safetensors"])
@pytest.mark.parametrize("instead", ["a folder", "a link that leads nowhere", "a link to itself"])
def test_what_is_no_file_is_refused(model, adapter, file, instead):
    path = adapter / file
    path.unlink()
    path.mkdir() if instead == "a folder" else path.symlink_to("nowhere" if "nowhere" in instead else file)
    assert "not a readable LoRA adapter" in refusal(model, adapter)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", "4"), ("r", 0), ("r", -3), ("r", 3.5), ("r", True), ("r", None), ("r", 10**9), ("r", 10**30),
        ("lora_alpha", float("nan")), ("lora_alpha", float("inf")), ("lora_alpha", 0), ("lora_alpha", "6"),
        ("target_modules", "q_proj"), ("target_modules", []), ("target_modules", [1]), ("target_modules", ["a\nb"]),
        ("target_modules", {"q_proj": 1}), ("peft_type", "LOHA"),
        ("use_qalora", True), ("modules_to_save", ["lm_head"]),
    ],
)  # fmt: skip
def test_a_nonsensical_setting_is_refused(model, adapter, field, value):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {field: value}), encoding="utf-8")
    said = refusal(model, adapter)
    assert field in said or "belongs to another model" in said


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff", b"{}", b"[" * 100_000])
def test_a_malformed_config_is_refused(model, adapter, content):
    (adapter / "adapter_config.json").write_bytes(content)
    assert "not a readable LoRA adapter" in refusal(model, adapter)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "head_bias.safetensors"])
def test_tensors_that_no_adapter_holds_are_refused(model, adapter, file):
    tensors = load((adapter / file).read_bytes())
    name = min(tensors)
    huge = torch.full_like(tensors[name], 1e300, dtype=torch.float64)  # too large for what it will be used in
    for spoilt in (tensors[name] * torch.nan, tensors[name] / 0, huge):
        save_file(tensors | {name: spoilt}, adapter / file)
        assert f"{name!r} in {file} holds values that are not finite" in refusal(model, adapter)
    for dtype in (torch.int64, torch.bool, torch.float8_e4m3fn):
        save_file(tensors | {name: tensors[name].to(dtype)}, adapter / file)
        assert f"{name!r} in {file} is of {dtype}" in refusal(model, adapter)
    save_file(tensors | {name: tensors[name][None].contiguous()}, adapter / file)
    assert "does not fit" in refusal(model, adapter)


def test_an_adapter_of_the_head_is_refused(model, adapter):
    """Its tensors fit; the head is trained by its bias alone."""
    path = adapter / "adapter_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"target_modules": ["lm_head"]}), encoding="utf-8"
    )
    name = "base_model.model.lm_head.lora_{}.weight"
    save_file({name.format("A"): torch.zeros(3, 64), name.format("B"): torch.zeros(13, 3)},
              adapter / "adapter_model.safetensors")  # fmt: skip
    assert "no linear layers named lm_head" in refusal(model, adapter)


def test_an_adapter_in_bfloat16_loads(model, adapter):
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load(file.read_bytes()).items()}, file)
    load_adapter(model, adapter)
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
