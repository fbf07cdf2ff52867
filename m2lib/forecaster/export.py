"""A model's folder that transformers runs without this library, and the cards that folders of models carry.

The adapter is merged into the base model, which keeps its full vocabulary and its own tokenizer. What the reduced model
has besides, a bias for each of its 13 tokens, travels in the generation config.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError
from transformers import GenerationConfig

from m2lib import model as models
from m2lib.files import InputError, first_line
from m2lib.series import FORECAST_STEPS, FORMAT_FILE, MOST_VARIABLES, STUDY, TextFormat

CARD = Path(__file__).parent / "cards" / "model.md"  # a Jinja template
CARD_FILE, GRAMMAR_FILE = "README.md", "grammar.gbnf"
FACTS_FILE = "facts.json"
"""What is known of an adapter: its `data` in a sentence; the training's `recipe`, settings by name, and `flops` by the
rules; `errors` by forecast and measure, and in words what is `measured`. A card leaves out what is not there."""


def export(
    backbone_name: str, folder: Path, *, adapter: Path | None, text_format: TextFormat = STUDY, force: bool = False
) -> Path:
    """Write a folder that plain transformers runs: weights, tokenizer, generation config, grammar and card.

    Its greedy forecasts, by the code in its card, are those of `m2lib.decoding.forecast`, token by token. The
    weights are float32, in which the sum of base and adapter is not rounded; whoever loads them may choose less.

    Parameters
    ----------
    backbone_name : str
        As in `m2lib.model.load_backbone`.
    folder : Path
        To be made. It is there in whole when all is written, and not before.
    adapter : Path or None
        Folder of the LoRA adapter to merge; a model that has none needs no export, and None is refused.
    text_format : TextFormat, optional
        That the adapter was trained in.
    force : bool, optional
        Whether an earlier export may be replaced; nothing else ever is.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        Where the folder holds anything or cannot be written; where there is no adapter, or one of another model; as
        of `m2lib.model.load_backbone`.
    """
    if adapter is None:
        raise InputError("there is no adapter to export, and the model is the base itself; `m2 finetune` makes one")
    with _in_place_of(folder, force) as new:
        backbone, bias = _merged(backbone_name, adapter)
        backbone.model.save_pretrained(new)
        for weights in new.glob("*.safetensors"):
            weights.chmod(0o644)  # which safetensors makes private
        backbone.tokenizer.save_pretrained(new)
        ids = backbone.remap.backbone_ids
        generation: dict[str, Any] = {"eos_token_id": ids[models.PAD_ID], "pad_token_id": ids[models.PAD_ID]}
        if any(bias):
            generation["sequence_bias"] = [[[token], value] for token, value in zip(ids, bias, strict=True)]
        GenerationConfig(do_sample=False, **generation).save_pretrained(new)
        known = adapter / FACTS_FILE
        facts = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
        card = model_card(backbone.name, text_format, facts, merged=True, biased=any(bias))
        grammar = gbnf(text_format, FORECAST_STEPS)
        for file, text in {CARD_FILE: card, FORMAT_FILE: text_format.text(), GRAMMAR_FILE: grammar}.items():
            (new / file).write_bytes(text.encode())
    return folder


def model_card(
    backbone_name: str,
    text_format: TextFormat,
    facts: Mapping[str, Any],
    *,
    merged: bool = False,
    biased: bool = True,
    horizon: int = FORECAST_STEPS,
) -> str:
    """The README.md of a model's folder, as the Hugging Face hub shows it: YAML between `---`, then Markdown.

    `merged`: a folder as `export` writes it, whose generation config may hold a bias, and not an adapter's.
    """
    spec, base = models.BACKBONES.get(backbone_name), models.hub_name(backbone_name)
    on_hub, licence = base != backbone_name, spec.licence if spec else ""
    data = ModelCardData(
        license=licence or None,
        base_model=base if on_hub else None,
        library_name="transformers" if merged else "peft",
        pipeline_tag="time-series-forecasting",
        tags=["time-series", "forecasting", "lora", "m2lib"],
    )
    words = {
        **facts,
        **text_format.settings(),
        "unit": text_format.unit,
        "longest_step": text_format.longest_step,
    }
    words |= {"base": base, "on_hub": on_hub, "licence": licence, "wheel": spec.wheel if spec else ""}
    words |= {"merged": merged, "biased": biased, "horizon": horizon, "symbols": len(models.SYMBOLS)}
    words["measures"] = list(dict.fromkeys(measure for row in facts.get("errors", {}).values() for measure in row))
    return ModelCard.from_template(data, str(CARD), step=step_pattern(text_format), **words).content


def step_pattern(text_format: TextFormat) -> str:
    """The regular expression of a step, such as `[0-9]{1,4},[0-9]{1,4};`; of any number of variables, of all."""
    number = f"[0-9]{{1,{text_format.digits}}}"
    if not text_format.variables:
        return f"{number}(,{number}){{0,{MOST_VARIABLES - 1}}};"
    return ",".join([number] * text_format.variables) + ";"


def gbnf(text_format: TextFormat, horizon: int) -> str:
    """The grammar of a forecast, in the notation of llama.cpp."""
    any_number = f'number ("," number){{0,{MOST_VARIABLES - 1}}}'
    step = ' "," '.join(["number"] * text_format.variables) or any_number
    return f"""\
# {horizon} steps; `root ::= step+` is any number of them
root ::= step{{{horizon}}}
step ::= {step} ";"
number ::= [0-9]{{1,{text_format.digits}}}
"""


@contextmanager
def _in_place_of(folder: Path, force: bool) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place when the block is done; InputError where it cannot."""
    try:
        place = folder.expanduser().resolve()
        if place.exists() and any(place.iterdir()):
            if not force:
                raise InputError(f"{folder} is not empty; name another folder, or give --force (force=True)")
            if not (place / GRAMMAR_FILE).is_file():  # the adapter, or somebody's home
                raise InputError(f"{folder} holds something else than an earlier export; name another folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.", suffix=".tmp") as scratch:
            (new := Path(scratch, "new")).mkdir()
            yield new
            if place.exists():
                place.rename(Path(scratch, "old"))
            new.rename(place)
    except (OSError, SafetensorError) as error:
        fault = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"cannot write {folder}: {fault}; free space there or choose another folder") from error


def _merged(name: str, adapter: Path) -> tuple[models.Backbone, list[float]]:
    """A base with its full vocabulary, the adapter merged, and the bias of the 13 tokens."""
    backbone = models.load_backbone(name, device="cpu", dtype="float32", reduce=False)
    model = backbone.model
    # An adapter fits the reduced model, which is the same blocks between another embedding and another head, and has
    # another config. Once the adapter is in the blocks, the full vocabulary's three are put back.
    config, embedding, head = copy.deepcopy(model.config), model.get_input_embeddings(), model.get_output_embeddings()
    models.merge_lora(models.load_adapter(models.reduce_vocabulary(model, backbone.remap), adapter))
    bias = model.get_output_embeddings().bias.tolist()
    model.config = config
    config.rope_theta = config.rope_parameters["rope_theta"]  # where transformers 4 and older engines look for it
    model.set_input_embeddings(embedding)
    model.set_output_embeddings(head)
    return backbone, bias
