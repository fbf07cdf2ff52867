"""A model's folder that transformers runs without this library, and the cards that folders of
models carry.

The adapter is merged into the base model, which keeps its full vocabulary and its own tokenizer.
What the reduced model has besides, a bias for each of its 13 tokens, travels in the generation
config.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError
from transformers import GenerationConfig

from m2lib import model as models
from m2lib.files import InputError, first_line, read_json, write_json
from m2lib.forecaster.adapters import base_of, read_format
from m2lib.series import FORECAST_STEPS, FORMAT_FILE, MOST_VARIABLES, TextFormat

CARD = Path(__file__).parent / "cards" / "model.md"  # a Jinja template
CARD_FILE, GRAMMAR_FILE = "README.md", "grammar.gbnf"
FACTS_FILE = "facts.json"
"""What is known of an adapter: its `data` in a sentence; the training's `recipe`, settings by name,
and `flops` by the rules; `errors` by forecast and measure, and in words what is `measured`. A card
leaves out what is not there."""


def export(
    adapter: Path, folder: Path, *, backbone: str | None = None, force: bool = False
) -> Path:
    """Write a folder that plain transformers runs: weights, tokenizer, generation config, grammar
    and card.

    Its greedy forecasts, by the code in its card, are those of `m2lib.decoding.forecast`, token by
    token. The weights are float32, in which the sum of base and adapter is not rounded; whoever
    loads them may choose less.

    Parameters
    ----------
    adapter : Path
        Folder of the LoRA adapter to merge.
    folder : Path
        To be made. It is there in whole when all is written, and not before.
    backbone : str, optional
        As in `m2lib.model.load_backbone`. Default: the adapter's.
    force : bool, optional
        Whether an earlier export may be replaced; nothing else ever is.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        Where the folder holds anything or cannot be written; for an adapter of another model; as of
        `m2lib.model.load_backbone`.
    """
    place = folder.expanduser().resolve()
    try:
        if (
            place.exists()
            and any(place.iterdir())
            and not (force and (place / GRAMMAR_FILE).is_file())
        ):
            raise InputError(
                f"{folder} is not empty; name another folder (--force replaces an earlier export alone)"
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(
            dir=place.parent, prefix=f".{place.name}.", suffix=".tmp"
        ) as scratch:
            new = Path(scratch, "new")
            _write(new, backbone or base_of(adapter), adapter)
            if place.exists():
                place.rename(Path(scratch, "old"))
            new.rename(place)
    except (OSError, SafetensorError) as error:
        fault = getattr(error, "strerror", None) or first_line(error)
        raise InputError(
            f"cannot write {folder}: {fault}; free space there or choose another folder"
        ) from error
    return folder


def model_card(
    backbone_name: str,
    text_format: TextFormat,
    facts: Mapping[str, Any],
    *,
    merged: bool = False,
    horizon: int = FORECAST_STEPS,
) -> str:
    """The README.md of a model's folder, as the Hugging Face hub shows it: YAML between `---`, then
    Markdown.

    `merged`: a folder as `export` writes it, and not an adapter's.
    """
    spec, base = models.BACKBONES.get(backbone_name), models.hub_name(backbone_name)
    data = ModelCardData(
        license=(spec and spec.licence) or None,
        base_model=base if base != backbone_name else None,
        library_name="transformers" if merged else "peft",
        pipeline_tag="time-series-forecasting",
        tags=["time-series", "forecasting", "lora", "m2lib"],
    )
    words = {"spec": spec, "base": base, "shape": text_format, "step": step_pattern(text_format)}
    return ModelCard.from_template(
        data, str(CARD), **words, **facts, merged=merged, horizon=horizon
    ).content


def step_pattern(text_format: TextFormat) -> str:
    """The regular expression of a step, such as `[0-9]{1,4},[0-9]{1,4};`; of any number of
    variables, of all."""
    number = f"[0-9]{{1,{text_format.digits}}}"
    any_number = f"{number}(,{number}){{0,{MOST_VARIABLES - 1}}}"
    return (",".join([number] * text_format.variables) or any_number) + ";"


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


def _write(folder: Path, name: str, adapter: Path) -> None:
    """Write all that an export of a backbone holds, its vocabulary whole and the adapter merged."""
    backbone = models.load_backbone(name, device="cpu", dtype="float32", reduce=False)
    model = backbone.model
    # An adapter fits the reduced model, which is the same blocks between another embedding and
    # another head, and has another config. Once the adapter is in the blocks, the full vocabulary's
    # three are put back.
    config, embedding, head = (
        deepcopy(model.config),
        model.get_input_embeddings(),
        model.get_output_embeddings(),
    )
    models.merge_lora(models.load_adapter(models.reduce_vocabulary(model, backbone.remap), adapter))
    bias = model.get_output_embeddings().bias.tolist()
    model.config = config
    config.rope_theta = config.rope_parameters[
        "rope_theta"
    ]  # where transformers 4 and older engines look for it
    model.set_input_embeddings(embedding)
    model.set_output_embeddings(head)
    model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    ids = backbone.remap.backbone_ids
    biases = [[[token], value] for token, value in zip(ids, bias, strict=True)]
    end = ids[models.PAD_ID]
    GenerationConfig(
        do_sample=False, sequence_bias=biases, eos_token_id=end, pad_token_id=end
    ).save_pretrained(folder)
    known, text_format = adapter / FACTS_FILE, read_format(adapter)
    facts = read_json(known) if known.exists() else {}
    write_json(folder / FORMAT_FILE, text_format.settings())
    (folder / CARD_FILE).write_bytes(
        model_card(backbone.name, text_format, facts, merged=True).encode()
    )
    (folder / GRAMMAR_FILE).write_bytes(gbnf(text_format, FORECAST_STEPS).encode())
