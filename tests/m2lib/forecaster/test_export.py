"""Exported models: that plain transformers forecasts with them as this library does, and what is
refused."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from m2lib.decoding import DecodeConfig, forecast
from m2lib.files import ROOT, InputError
from m2lib.forecaster import Forecaster, View
from m2lib.forecaster.adapters import GENERAL, read_format, read_views
from m2lib.forecaster.export import export, gbnf, model_card, step_pattern
from m2lib.model import SYMBOLS, inject_lora, load_adapter, load_backbone, lora_layers, save_adapter
from m2lib.model.weights import local_weights
from m2lib.series import STUDY, TABLES, TextFormat, generate_series

FINAL = ROOT / "report" / "results" / "laptop-smollm2-135m" / "final"
PELTS = ROOT / "report" / "results" / "pelts" / "tuned"
FACTS = json.loads((PELTS / "facts.json").read_text(encoding="utf-8"))
ODD = TextFormat(2, 3, offset=0.1, room=3.0)  # 333 and not a multiple of ten is its unit
FORMATS = (
    STUDY,
    TextFormat(1, percentile=95, offset=0.2),
    TextFormat(3, 3, offset=0.1, separate=True),
    TABLES,
    ODD,
)
EACH_FORMAT = pytest.mark.parametrize(
    "text_format", FORMATS, ids=["study", "one", "three", "any", "odd"]
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """Of the tiny model, random; its bias is as large as its logits."""
    backbone = load_backbone("tiny", device="cpu", dtype="float32")
    inject_lora(backbone.model, rank=2, generator=seeded(0))
    with torch.no_grad():
        for layer in lora_layers(backbone.model).values():
            layer.lora_B.normal_(std=3, generator=seeded(1))
        backbone.model.lm_head.bias.normal_(std=0.4, generator=seeded(1))
    folder = tmp_path_factory.mktemp("tuned") / "adapter"
    save_adapter(backbone.model, folder, "tiny")
    return folder


@pytest.fixture
def from_card(monkeypatch):
    """Runs the code in a folder's card, in that folder, and gives the names that it defines."""

    def run(folder):
        code = re.search(
            r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.S
        )[1]
        monkeypatch.chdir(folder)
        exec(code, names := {})
        return SimpleNamespace(**names)

    return run


def waves(text_format, count=3, steps=12):
    """Contexts (count, steps, variables); below zero where the format can write that."""
    starts = np.random.default_rng(0).uniform(0, 6, (count, 1, text_format.of(2).variables))
    return np.sin(np.arange(steps)[:, None] / 3 + starts) + (0 if text_format.offset else 1.5)


def forecasts(backbone, contexts, horizon, text_format):
    text_format = text_format.of(2)
    config = DecodeConfig(steps=horizon, max_new_tokens=text_format.longest_step * horizon)
    return forecast(backbone, contexts, config, text_format=text_format)


def written_in(text_format, adapter, folder):
    """The same adapter, as if it had been trained in a text format."""
    shutil.copytree(adapter, folder)
    (folder / "text_format.json").write_text(json.dumps(text_format.settings()), encoding="utf-8")
    return folder


@EACH_FORMAT
def test_the_cards_code_writes_our_tokens(adapter, tmp_path, from_card, text_format):
    backbone = load_backbone("tiny", device="cpu", dtype="float32")
    load_adapter(backbone.model, adapter)
    contexts = waves(text_format)
    ours = [ahead.texts[0] for ahead in forecasts(backbone, contexts, 4, text_format)]
    card = from_card(
        export(written_in(text_format, adapter, tmp_path / "tuned"), tmp_path / "model")
    )
    written = []
    generate = card.model.generate

    def noting(input_ids, **options):
        ids = generate(input_ids=input_ids, **options)
        written.append(card.tokenizer.convert_ids_to_tokens(ids[0, input_ids.shape[1] :]))
        return ids

    card.model.generate = noting
    for context in contexts:
        card.forecast(context, 4)
    assert ["".join(tokens).split("<|endoftext|>")[0] for tokens in written] == ours
    assert len(set(ours)) == 3


@EACH_FORMAT
def test_the_cards_code_writes_and_reads_series(adapter, tmp_path, from_card, text_format):
    """Whatever the model: here it writes the context's last steps again, and then what is no
    step."""
    card = from_card(
        export(written_in(text_format, adapter, tmp_path / "tuned"), tmp_path / "model")
    )
    context = waves(text_format)[0]
    text_format = text_format.of(2)
    scaling = text_format.scaling(context)
    text = text_format.encode(context, scaling)
    again = "".join(text.split(";")[i] + ";" for i in (-4, -3, -2)) + ";,12;"
    seen = []

    def generate(input_ids, **options):
        seen.append("".join(card.tokenizer.convert_ids_to_tokens(input_ids[0])))
        new = card.tokenizer(again, return_tensors="pt", add_special_tokens=False).input_ids
        return torch.cat([input_ids, new], 1)

    card.model.generate = generate
    values = card.forecast(context, 6)
    assert seen == [text]
    assert values.tolist() == pytest.approx(
        scaling.physical(text_format.integers(context[-3:], scaling)), rel=1e-12
    )


def test_the_recorded_adapter_forecasts_the_same(tmp_path, from_card):
    folder = export(FINAL, tmp_path / "model")
    backbone = load_backbone("smollm2-135m", device="cpu", dtype="float32")
    load_adapter(backbone.model, FINAL)
    contexts = generate_series(2).contexts[:, -10:].astype(np.float64)
    ours = forecasts(backbone, contexts, 2, STUDY)
    card = from_card(folder)
    for context, ahead in zip(contexts, ours, strict=True):
        assert sum(ahead.repairs) == 0
        np.testing.assert_allclose(card.forecast(context, 2), ahead.physical[0], rtol=1e-12)

    theirs, plain = (
        load_file(place / "model.safetensors")
        for place in (folder, local_weights("smollm2-135m")[0])
    )
    assert theirs.keys() == plain.keys()
    assert {name.split(".")[-2] for name in plain if not theirs[name].equal(plain[name])} == {
        "q_proj",
        "v_proj",
    }
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["vocab_size"] == 49152
    # Transformers 4 looks for it here, and would turn positions by another angle without a word.
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 100_000


def test_what_is_in_the_folder(adapter, tmp_path):
    exported = export(adapter, tmp_path / "model")
    assert sorted(path.name for path in exported.iterdir()) == [
        *(
            "README.md",
            "config.json",
            "generation_config.json",
            "grammar.gbnf",
            "model.safetensors",
        ),
        *("text_format.json", "tokenizer.json", "tokenizer_config.json"),
    ]
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1  # the umask's
    assert read_format(exported) == STUDY
    generation = json.loads((exported / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == generation["pad_token_id"] == 95
    assert len(generation["sequence_bias"]) == len(SYMBOLS)


@EACH_FORMAT
def test_a_forecaster_takes_an_export_as_it_takes_the_adapter(adapter, tmp_path, text_format):
    """With its text format, which no table would have chosen."""
    tuned = written_in(text_format, adapter, tmp_path / "tuned")
    folder = export(tuned, tmp_path / "model")
    context = 5 + np.random.default_rng(0).random((text_format.of(2).variables, 12)).squeeze()
    settings = {"device": "cpu", "dtype": "float32"}
    ways = (
        Forecaster.from_pretrained(tuned, **settings),
        Forecaster.from_pretrained(backbone=str(folder), **settings),
    )
    (one, _), (other, _) = (
        way.predict_quantiles([context], 3, temperature=0.01, num_samples=1) for way in ways
    )
    assert ways[1].text_format == text_format
    assert torch.equal(one, other)
    biases = [way.backbone.model.lm_head.bias.tolist() for way in ways]
    assert biases[0] == biases[1]
    with pytest.raises(InputError, match="has a text format of its own"):
        Forecaster.from_pretrained(backbone=str(folder), text_format=text_format, **settings)


@EACH_FORMAT
def test_the_pattern_and_the_grammar_are_of_steps(text_format):
    rules = dict(line.split(" ::= ") for line in gbnf(text_format, 3).splitlines()[1:])
    step = re.sub('[" ]', "", rules["step"].replace("number", rules["number"]))
    grammar = rules["root"].replace("step", f"(?:{step})")
    context = waves(text_format)[0]
    shape = text_format.of(2)
    text = shape.encode(context[:3], shape.scaling(context))
    longer = re.sub("^[0-9]+", "1" * (text_format.digits + 1), text)
    for pattern in (f"({step_pattern(text_format)}){{3}}", grammar):
        assert re.fullmatch(pattern, text)
        for spoilt in (
            text[:-1],
            text + "1",
            text.replace(";", "", 1),
            "," + text,
            text + text,
            longer,
        ):
            assert not re.fullmatch(pattern, spoilt)


def test_a_committed_adapters_card_is_of_its_facts():
    committed = (PELTS / "README.md").read_text(encoding="utf-8")
    assert model_card("smollm2-135m", read_format(PELTS), FACTS, horizon=10) == committed
    merged = ModelCard(model_card("smollm2-135m", read_format(PELTS), FACTS, merged=True))
    assert merged.data.to_dict() == ModelCard(committed).data.to_dict() | {
        "library_name": "transformers"
    }
    assert "| before | 21.53 | 20.31 |" in merged.text
    assert "prefix_allowed_tokens_fn" in merged.text
    assert "PeftModel" not in merged.text


def test_the_card_of_general_is_of_its_facts():
    facts = json.loads((GENERAL / "facts.json").read_text(encoding="utf-8"))
    card = (GENERAL / "README.md").read_text(encoding="utf-8")
    views = read_views(GENERAL)
    assert model_card("smollm2-135m", read_format(GENERAL), facts, views=views) == card
    assert "shared out among three views" in card


def test_a_card_leaves_out_what_is_not_known():
    text = model_card("my-model", STUDY, {})
    assert re.findall("^## .*$", text, re.M) == ["## Forecast", "## Base and licence"]
    assert "base_model:" not in text
    assert "license:" not in text


def test_a_merged_models_card_says_what_is_known_of_its_adapter(adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "adapter")
    (tmp_path / "adapter" / "facts.json").write_text(json.dumps(FACTS), encoding="utf-8")
    card = (export(tmp_path / "adapter", tmp_path / "model") / "README.md").read_text(
        encoding="utf-8"
    )
    assert card.strip() == model_card("tiny", STUDY, FACTS, merged=True).strip()


def refusal(folder, adapter, **options):
    """The one line in which an export is refused; nothing on the disk has changed."""

    def all_files():
        return {path: path.is_file() and path.read_bytes() for path in folder.parent.rglob("*")}

    before = all_files()
    with pytest.raises(InputError) as error:
        export(adapter, folder, backbone="tiny", **options)
    assert all_files() == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_merged_is_refused(adapter, tmp_path):
    with pytest.raises(
        InputError, match="there is no adapter to export, and the model is the base itself"
    ):
        Forecaster(load_backbone("tiny", device="cpu", dtype="float32")).export(tmp_path / "model")
    for other in (tmp_path / "none", FINAL):
        assert f"{other}: not a LoRA adapter of this model" in refusal(tmp_path / "model", other)


def test_a_place_that_is_taken_is_refused(adapter, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work", encoding="utf-8")
    for force in (False, True):
        assert f"{folder} is not empty; name another folder" in refusal(
            folder, adapter, force=force
        )
    for place in ("thesis.txt", "thesis.txt/x"):
        assert f"cannot write {folder}/{place}: " in refusal(folder / place, adapter)


def test_an_earlier_export_gives_way_to_force(adapter, tmp_path):
    folder = export(adapter, tmp_path / "model")
    assert "is not empty" in refusal(folder, adapter)
    (folder / "left.safetensors").write_bytes(b"of the earlier one")
    assert export(adapter, folder, force=True) == folder
    assert not (folder / "left.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_leaves_nothing(adapter, tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # bytes; the weights are more
    try:
        assert f"cannot write {tmp_path / 'model'}: " in refusal(tmp_path / "model", adapter)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_forecaster_takes_the_views_of_an_adapter_and_of_its_export(adapter, tmp_path):
    tuned = tmp_path / "tuned"
    shutil.copytree(adapter, tuned)
    (tuned / "views.json").write_text('[{"steps": 20}, {"trend": true}]', encoding="utf-8")
    settings = {"device": "cpu", "dtype": "float32"}
    ways = (
        Forecaster.from_pretrained(tuned, **settings),
        Forecaster.from_pretrained(backbone=str(export(tuned, tmp_path / "model")), **settings),
    )
    assert [way.views for way in ways] == [(View(20), View(trend=True))] * 2
