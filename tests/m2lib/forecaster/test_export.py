"""Exported models: plain transformers forecasts with them as this library does.

Their cards say what is known of them, and what cannot be exported is refused.
"""

import json
import re
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from m2lib.decoding import DecodeConfig, forecast
from m2lib.errors import InputError
from m2lib.files import ROOT
from m2lib.forecaster import Forecaster, View
from m2lib.forecaster.adapters import GENERAL_FOLDER, read_format, read_views
from m2lib.forecaster.cards import model_card, step_pattern
from m2lib.forecaster.export import export, gbnf
from m2lib.model import SYMBOLS, inject_lora, load_adapter, load_backbone, lora_layers, save_adapter
from m2lib.model.weights import local_weights
from m2lib.series import STUDY, TABLES, TextFormat, generate_series

FINAL = ROOT / "report" / "results" / "laptop-smollm2-135m" / "final"
"""The study's last adapter, of the default backbone."""
PELTS = ROOT / "report" / "results" / "pelts" / "tuned"
"""An adapter that was tuned on a table, with a card and the facts of it."""
FACTS = json.loads((PELTS / "facts.json").read_text(encoding="utf-8"))
ON_CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """Return the folder of a random adapter of the tiny model.

    Its bias is as large as the logits, so that none of it can be lost unnoticed.
    """
    backbone = load_backbone("tiny", **ON_CPU)
    inject_lora(backbone.model, rank=2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in lora_layers(backbone.model).values():
            layer.lora_B.normal_(std=3, generator=torch.Generator().manual_seed(1))
        bias = backbone.model.lm_head.bias
        bias.normal_(std=0.4, generator=torch.Generator().manual_seed(1))

    folder = tmp_path_factory.mktemp("tuned") / "adapter"
    save_adapter(backbone.model, folder, "tiny")
    return folder


FORMATS = {
    "study": STUDY,
    "one": TextFormat(1, percentile=95, offset=0.2),
    "three": TextFormat(3, 3, offset=0.1, separate=True),
    "any": TABLES,
    # Its unit is 333, which is no multiple of ten.
    "odd": TextFormat(2, 3, offset=0.1, room=3.0),
}


@pytest.fixture(scope="module", params=FORMATS.values(), ids=list(FORMATS))
def text_format(request):
    return request.param


def test_the_cards_code_is_tried_with_two_values_of_each_setting():
    for setting in asdict(STUDY):
        if setting != "spread":  # the book says that the card's code does without it
            tried = {getattr(text_format, setting) for text_format in FORMATS.values()}
            assert len(tried) > 1, setting


@pytest.fixture(scope="module")
def tuned(adapter, text_format, tmp_path_factory):
    """Return the folder of the random adapter, as if it had been trained in the text format."""
    folder = tmp_path_factory.mktemp("tuned") / "adapter"
    shutil.copytree(adapter, folder)
    (folder / "text_format.json").write_text(json.dumps(text_format.settings()), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def exported(tuned, tmp_path_factory):
    """Return the folder that `tuned` is exported to."""
    return export(tuned, tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="module")
def exported_final(tmp_path_factory):
    """Return the folder that the study's last adapter is exported to: half a gigabyte."""
    return export(FINAL, tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture
def run_card(monkeypatch):
    """Return a function that runs the code of a folder's card, and returns what it defines."""

    def run(folder):
        card = (folder / "README.md").read_text(encoding="utf-8")
        code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
        monkeypatch.chdir(folder)  # the code loads the model of the folder that it runs in
        names = {}
        exec(code, names)
        return SimpleNamespace(**names)

    return run


def waves(text_format):
    """Return three contexts of twelve steps, below zero where the format can write that."""
    variables = text_format.for_variables(2).variables
    starts = np.random.default_rng(0).uniform(0, 6, (3, 1, variables))
    steps = np.arange(12)[:, None]
    level = 0 if text_format.offset else 1.5
    return np.sin(steps / 3 + starts) + level


def our_forecasts(backbone, contexts, horizon, text_format):
    """Return the greedy forecasts of this library."""
    text_format = text_format.for_variables(2)
    config = DecodeConfig(steps=horizon, max_new_tokens=text_format.longest_step * horizon)
    return forecast(backbone, contexts, config, text_format=text_format)


# The code in the card of an export


def test_the_cards_code_writes_our_tokens(adapter, exported, text_format, run_card):
    backbone = load_backbone("tiny", **ON_CPU)
    load_adapter(backbone.model, adapter)
    contexts = waves(text_format)
    ours = [ahead.texts[0] for ahead in our_forecasts(backbone, contexts, 4, text_format)]
    assert len(set(ours)) == 3  # so that it matters which is which

    card = run_card(exported)
    generate = card.model.generate
    theirs = []

    def generate_and_keep(input_ids, **options):
        ids = generate(input_ids=input_ids, **options)
        new = card.tokenizer.convert_ids_to_tokens(ids[0, input_ids.shape[1] :])
        theirs.append("".join(new).split("<|endoftext|>")[0])
        return ids

    card.model.generate = generate_and_keep
    for context in contexts:
        card.forecast(context, 4)

    assert theirs == ours


def test_the_cards_code_writes_a_context_and_reads_a_forecast_as_we_do(
    exported, text_format, run_card
):
    context = waves(text_format)[0]
    text_format = text_format.for_variables(2)
    scaling = text_format.scaling(context)
    text = text_format.encode(context, scaling)

    # In the model's place: the last three steps of the context once more, and then what is no step.
    last_steps = text.split(";")[-4:-1]
    answer = ";".join(last_steps) + ";" + ";,12;"
    card = run_card(exported)
    prompts = []

    def generate(input_ids, **options):
        prompts.append("".join(card.tokenizer.convert_ids_to_tokens(input_ids[0])))
        new = card.tokenizer(answer, return_tensors="pt", add_special_tokens=False).input_ids
        return torch.cat([input_ids, new], 1)

    card.model.generate = generate
    values = card.forecast(context, 6)

    assert prompts == [text]
    expected = scaling.physical(text_format.integers(context[-3:], scaling))
    assert values.tolist() == pytest.approx(expected, rel=1e-12)


def test_the_recorded_adapter_forecasts_the_same(exported_final, run_card):
    backbone = load_backbone("smollm2-135m", **ON_CPU)
    load_adapter(backbone.model, FINAL)
    contexts = generate_series(2).contexts[:, -10:].astype(np.float64)
    ours = our_forecasts(backbone, contexts, 2, STUDY)

    card = run_card(exported_final)
    for context, ahead in zip(contexts, ours, strict=True):
        assert sum(ahead.repairs) == 0
        np.testing.assert_allclose(card.forecast(context, 2), ahead.physical[0], rtol=1e-12)


# What an export holds


def test_an_export_holds_all_that_programs_look_for(exported):
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "grammar.gbnf",
        "model.safetensors",
        "text_format.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_all_files_have_the_rights_that_the_umask_gives(exported, tmp_path):
    new = tmp_path / "new"
    new.touch()
    rights = {path.stat().st_mode for path in exported.iterdir()}
    assert rights == {new.stat().st_mode}


def test_an_export_says_its_text_format(exported, text_format):
    assert read_format(exported) == text_format


def test_without_another_the_text_format_is_the_studys(adapter, tmp_path):
    assert not (adapter / "text_format.json").exists()
    folder = export(adapter, tmp_path / "model")
    assert (folder / "text_format.json").exists()
    assert read_format(folder) == STUDY


def test_the_generation_config_ends_texts_and_holds_the_bias(exported):
    generation = json.loads((exported / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == generation["pad_token_id"] == 95
    assert len(generation["sequence_bias"]) == len(SYMBOLS)


def test_an_export_differs_from_its_base_in_the_adapted_projections_alone(exported_final):
    base = load_file(local_weights("smollm2-135m")[0] / "model.safetensors")
    merged = load_file(exported_final / "model.safetensors")
    assert merged.keys() == base.keys()

    changed = [name for name in base if not merged[name].equal(base[name])]
    projections = {name.split(".")[-2] for name in changed}
    assert projections == {"q_proj", "v_proj"}


def test_an_export_has_all_49152_tokens_of_smollm2(exported_final):
    config = json.loads((exported_final / "config.json").read_text(encoding="utf-8"))
    assert config["vocab_size"] == 49152


def test_the_rotary_base_is_where_either_transformers_looks_for_it(exported_final):
    """Transformers 4 would turn positions by another angle, without a word."""
    config = json.loads((exported_final / "config.json").read_text(encoding="utf-8"))
    assert config["rope_theta"] == 100_000
    assert config["rope_parameters"]["rope_theta"] == 100_000


# An export as the model of a forecaster


def test_a_forecaster_takes_an_export_as_it_takes_the_adapter(tuned, exported, text_format):
    of_adapter = Forecaster.from_pretrained(tuned, **ON_CPU)
    of_export = Forecaster.from_pretrained(backbone=str(exported), **ON_CPU)
    assert of_export.text_format == text_format  # which no table would have chosen

    bias = of_adapter.backbone.model.lm_head.bias
    assert of_export.backbone.model.lm_head.bias.tolist() == bias.tolist()

    variables = text_format.for_variables(2).variables
    context = 5 + np.random.default_rng(0).random((variables, 12)).squeeze()
    expected, _ = of_adapter.predict_quantiles([context], 3, num_samples=1)
    quantiles, _ = of_export.predict_quantiles([context], 3, num_samples=1)
    assert torch.equal(quantiles, expected)


def test_an_export_takes_no_other_text_format(exported, text_format):
    with pytest.raises(InputError, match="has a text format of its own"):
        Forecaster.from_pretrained(backbone=str(exported), text_format=text_format, **ON_CPU)


def test_a_forecaster_takes_the_views_of_an_adapter_and_of_its_export(adapter, tmp_path):
    tuned = tmp_path / "tuned"
    shutil.copytree(adapter, tuned)
    (tuned / "views.json").write_text('[{"steps": 20}, {"trend": true}]', encoding="utf-8")
    exported = export(tuned, tmp_path / "model")

    of_adapter = Forecaster.from_pretrained(tuned, **ON_CPU)
    of_export = Forecaster.from_pretrained(backbone=str(exported), **ON_CPU)
    assert of_adapter.views == (View(20), View(trend=True))
    assert of_export.views == of_adapter.views


# The pattern and the grammar of a forecast


def assert_three_steps_match(pattern, text_format):
    """Assert that a text of three steps matches, and that no text which is spoilt does."""
    shape = text_format.for_variables(2)
    context = waves(text_format)[0]
    text = shape.encode(context[:3], shape.scaling(context))
    assert re.fullmatch(pattern, text)

    too_many_digits = "1" * (text_format.digits + 1)
    for spoilt in (
        text[:-1],  # without the last semicolon
        text + "1",
        text.replace(";", "", 1),
        "," + text,
        text + text,
        re.sub("^[0-9]+", too_many_digits, text),
    ):
        assert not re.fullmatch(pattern, spoilt)


def test_the_pattern_is_of_steps(text_format):
    pattern = f"({step_pattern(text_format)}){{3}}"
    assert_three_steps_match(pattern, text_format)


def test_the_grammar_is_of_steps(text_format):
    comment, *rules = gbnf(text_format, 3).splitlines()
    assert comment.startswith("#")
    bodies = dict(rule.split(" ::= ") for rule in rules)

    # The rules put into one another, without quotes and blanks, are a regular expression.
    step = bodies["step"].replace("number", bodies["number"])
    step = re.sub('[" ]', "", step)
    pattern = bodies["root"].replace("step", f"(?:{step})")
    assert_three_steps_match(pattern, text_format)


# Cards


def test_the_card_of_a_committed_adapter_is_made_of_its_facts():
    committed = (PELTS / "README.md").read_text(encoding="utf-8")
    assert model_card("smollm2-135m", read_format(PELTS), FACTS, horizon=10) == committed


def test_the_card_of_general_is_made_of_its_facts():
    committed = (GENERAL_FOLDER / "README.md").read_text(encoding="utf-8")
    facts = json.loads((GENERAL_FOLDER / "facts.json").read_text(encoding="utf-8"))
    views = read_views(GENERAL_FOLDER)
    assert model_card("smollm2-135m", read_format(GENERAL_FOLDER), facts, views=views) == committed
    assert "shared out among three views" in committed


def test_a_card_counts_the_views_of_an_adapter_however_many_they_are():
    card = model_card("smollm2-135m", TABLES, {}, views=[View(20)] * 5)
    assert "shared out among 5 views" in card


def test_the_cards_code_reads_as_many_steps_of_three_variables_as_we_do():
    card = model_card("smollm2-135m", TABLES, {}, merged=True)
    (steps,) = re.findall(r"context\[-(.*?) :\]", card)
    of_three = SimpleNamespace(shape=(500, 3))
    assert eval(f"-{steps}", {"context": of_three}) == -(
        1024 // TABLES.for_variables(3).longest_step
    )


def test_the_card_of_a_merged_model_is_for_transformers():
    of_adapter = ModelCard((PELTS / "README.md").read_text(encoding="utf-8"))
    merged = ModelCard(model_card("smollm2-135m", read_format(PELTS), FACTS, merged=True))

    assert merged.data.to_dict() == of_adapter.data.to_dict() | {"library_name": "transformers"}
    assert "prefix_allowed_tokens_fn" in merged.text
    assert "PeftModel" not in merged.text


def test_the_card_of_a_merged_model_has_the_errors_of_its_adapter():
    card = model_card("smollm2-135m", read_format(PELTS), FACTS, merged=True)
    assert "| before | 21.53 | 20.31 |" in ModelCard(card).text


def test_a_card_leaves_out_what_is_not_known():
    card = model_card("my-model", STUDY, {})
    assert re.findall("^## .*$", card, re.MULTILINE) == ["## Forecast", "## Base and licence"]
    assert "base_model:" not in card
    assert "license:" not in card


def test_the_card_of_an_adapter_on_a_model_of_ones_own_claims_nothing_of_the_hub():
    card = model_card("qwen2.5-1.5b-instruct", STUDY, {})
    assert 'from_pretrained("the folder of qwen2.5-1.5b-instruct")' in card
    assert "The base is `qwen2.5-1.5b-instruct`; where it comes from is not known" in card


def test_the_card_of_an_export_says_what_is_known_of_its_adapter(adapter, tmp_path):
    with_facts = tmp_path / "adapter"
    shutil.copytree(adapter, with_facts)
    (with_facts / "facts.json").write_text(json.dumps(FACTS), encoding="utf-8")

    folder = export(with_facts, tmp_path / "model")

    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.strip() == model_card("tiny", STUDY, FACTS, merged=True).strip()


# What is refused


def contents(folder):
    """Return the bytes of each file below a folder, and None for each folder, by path."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused_export(refusal):
    """Return a function that returns the line in which an export is refused.

    The disk is then as it was before.
    """

    def line_of(folder, adapter, **options):
        before = contents(folder.parent)
        line = refusal(export, adapter, folder, backbone="tiny", **options)
        assert contents(folder.parent) == before
        return line

    return line_of


def test_a_forecaster_without_an_adapter_is_refused(tmp_path):
    untuned = Forecaster(load_backbone("tiny", **ON_CPU))
    message = "this forecaster has no adapter to merge into the model tiny"
    with pytest.raises(InputError, match=message):
        untuned.export(tmp_path / "model")


def test_an_adapter_that_is_not_of_the_model_is_refused(tmp_path, refused_export):
    for other in (tmp_path / "none", FINAL):
        line = refused_export(tmp_path / "model", other)
        assert f"{other}: not a LoRA adapter of this model" in line


def test_facts_that_cannot_be_read_are_refused(adapter, tmp_path, refused_export):
    damaged = shutil.copytree(adapter, tmp_path / "adapter")
    (damaged / "facts.json").write_text("{", encoding="utf-8")
    line = refused_export(tmp_path / "model", damaged)
    assert "facts.json cannot be read" in line
    assert line.endswith("correct it, or delete it")


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_holds_anything_else_is_refused_even_with_force(
    adapter, tmp_path, refused_export, force
):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work", encoding="utf-8")
    line = refused_export(folder, adapter, force=force)
    assert f"{folder} is not empty; name another folder" in line


@pytest.mark.parametrize("place", ["thesis.txt", "thesis.txt/x"])
def test_a_place_where_a_file_is_in_the_way_is_refused(adapter, tmp_path, refused_export, place):
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("years of work", encoding="utf-8")
    assert f"cannot write {tmp_path / place}: " in refused_export(tmp_path / place, adapter)
    assert thesis.read_text(encoding="utf-8") == "years of work"


def test_an_earlier_export_gives_way_to_force_alone(adapter, tmp_path, refused_export):
    folder = export(adapter, tmp_path / "model")
    assert "is not empty" in refused_export(folder, adapter)

    (folder / "left.safetensors").write_bytes(b"of the earlier one")
    (folder / "chat_template.jinja").write_bytes(b"of the earlier one")
    assert export(adapter, folder, force=True) == folder
    assert not (folder / "left.safetensors").exists()
    assert not (folder / "chat_template.jinja").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_what_no_export_writes_outlives_an_earlier_one(adapter, tmp_path):
    """As a GGUF does, which llama.cpp writes into the folder that it converts."""
    folder = export(adapter, tmp_path / "model")
    converted = folder / "model-f16.gguf"
    converted.write_bytes(b"an hour of work")
    card = folder / "README.md"
    card.write_text("an old card", encoding="utf-8")

    export(adapter, folder, force=True)
    assert converted.read_bytes() == b"an hour of work"
    assert card.read_text(encoding="utf-8") != "an old card"


def test_a_full_disk_leaves_nothing(adapter, tmp_path, refused_export):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # bytes; the weights are more
    try:
        line = refused_export(tmp_path / "model", adapter)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"cannot write {tmp_path / 'model'}: " in line
