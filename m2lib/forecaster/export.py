"""A model's folder that transformers runs without this library, and the cards that folders of models carry.

The adapter is merged into the base model, which keeps its full vocabulary and its own tokenizer. What the reduced model
has besides, a bias for each of its 13 tokens, travels in the generation config.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from m2lib.files import InputError, first_line, make_readable
from m2lib.forecaster.adapters import FORMAT_FILE, format_text
from m2lib.model import BACKBONES, PAD_ID, SYMBOLS, TokenRemap, hub_name, load_backbone, save_tokenizer
from m2lib.series import FORECAST_STEPS, STUDY, TextFormat

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from m2lib.model import Backbone

CARD = Path(__file__).parent / "cards" / "model.md"  # a Jinja template
CARD_FILE, GRAMMAR_FILE = "README.md", "grammar.gbnf"


@dataclass(frozen=True)
class CardFacts:
    """What is known of how a model came to be and how good it is; a card leaves out what is not."""

    data: str = ""
    """The series that it was trained on, in Markdown."""
    recipe: Mapping[str, object] = field(default_factory=dict)
    """Settings of the training, by name."""
    flops: float = 0
    """Of the training, by the coursework's rules."""
    measured: str = ""
    """What the errors are of: series, horizon, unit; such as `50 test series, 20 steps, in scaled units`."""
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For this model and for each forecast that it is compared with its errors, by the measure's name."""


def export(
    backbone_name: str,
    folder: Path,
    *,
    adapter: Path | None,
    text_format: TextFormat = STUDY,
    facts: CardFacts | None = None,
    horizon: int = FORECAST_STEPS,
    force: bool = False,
) -> Path:
    """Write a folder that plain transformers runs: weights, tokenizer, generation config, grammar and card.

    Its greedy forecasts, by the code in its card, are those of `m2lib.forecasting.forecast`, token by token. The
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
    facts : CardFacts, optional
        What the card says of the training. Default: what the adapter's own card says.
    horizon : int, optional
        Steps of a text by the grammar.
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
    from m2lib.model.folders import quiet_transformers

    if adapter is None:
        raise InputError(
            "there is no adapter to export: without one the model is the base itself; `m2 finetune` makes one"
        )
    with _in_place_of(folder, force) as new, quiet_transformers():
        backbone, bias = _merged(backbone_name, adapter)
        backbone.model.save_pretrained(new)
        for weights in new.glob("*.safetensors"):
            make_readable(weights)
        _generation_config(backbone.remap, bias).save_pretrained(new)
        save_tokenizer(backbone_name, new)
        _check_tokenizer(new, backbone.remap)
        known = _known(adapter) if facts is None else ""
        card = model_card(
            backbone.name, text_format, facts, merged=True, biased=any(bias), horizon=horizon, known=known
        )
        form, grammar = format_text(text_format), gbnf(text_format, horizon)
        for file, text in {CARD_FILE: card, FORMAT_FILE: form, GRAMMAR_FILE: grammar}.items():
            (new / file).write_bytes(text.encode())
    return folder


def model_card(
    backbone_name: str,
    text_format: TextFormat = STUDY,
    facts: CardFacts | None = None,
    *,
    merged: bool = False,
    biased: bool = True,
    horizon: int = FORECAST_STEPS,
    known: str = "",
) -> str:
    """The README.md of a model's folder, as the Hugging Face hub shows it.

    Parameters
    ----------
    backbone_name : str
        Name of the base (`m2lib.model.backbone_id`).
    text_format : TextFormat, optional
        How series are written.
    facts : CardFacts, optional
        What is known of the training.
    merged : bool, optional
        True for a folder as `export` writes it, which transformers runs; False for an adapter's, which m2lib and PEFT
        load.
    biased : bool, optional
        Whether a merged model's generation config holds a bias.
    horizon : int, optional
        Steps in the examples.
    known : str, optional
        Sections that say what `facts` would, as another card has them.

    Returns
    -------
    str
        YAML between `---`, then Markdown.
    """
    from huggingface_hub import ModelCard, ModelCardData

    facts, spec, base = facts or CardFacts(), BACKBONES.get(backbone_name), hub_name(backbone_name)
    on_hub, licence = base != backbone_name, spec.licence if spec else ""
    data = ModelCardData(
        license=licence or None,
        base_model=base if on_hub else None,
        library_name="transformers" if merged else "peft",
        pipeline_tag="time-series-forecasting",
        tags=["time-series", "forecasting", "lora", "m2lib"],
    )
    measures = list(dict.fromkeys(measure for row in facts.errors.values() for measure in row))
    texts = {"unit": text_format.unit, "longest_step": text_format.longest_step, "step": step_pattern(text_format)}
    of_base = {"base": base, "on_hub": on_hub, "licence": licence, "wheel": spec.wheel if spec else ""}
    shown = {"merged": merged, "biased": biased, "horizon": horizon, "known": known, "symbols": len(SYMBOLS)}
    words = asdict(facts) | text_format.settings() | texts | of_base | shown
    return ModelCard.from_template(data, str(CARD), **words, measures=measures).content


def step_pattern(text_format: TextFormat) -> str:
    """The regular expression of a step.

    Parameters
    ----------
    text_format : TextFormat
        How series are written.

    Returns
    -------
    str
        Such as `[0-9]{1,4},[0-9]{1,4};`.
    """
    return ",".join([f"[0-9]{{1,{text_format.digits}}}"] * text_format.variables) + ";"


def gbnf(text_format: TextFormat, horizon: int) -> str:
    """The grammar of a forecast, in the notation of llama.cpp.

    Parameters
    ----------
    text_format : TextFormat
        How series are written.
    horizon : int
        Steps.

    Returns
    -------
    str
        Four lines.
    """
    step = ' "," '.join(["number"] * text_format.variables)
    return f"""\
# {horizon} steps; `root ::= step+` is any number of them
root ::= step{{{horizon}}}
step ::= {step} ";"
number ::= [0-9]{{1,{text_format.digits}}}
"""


@contextmanager
def _in_place_of(folder: Path, force: bool) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place when the block is done; InputError where it cannot."""
    from safetensors import SafetensorError

    try:
        place = folder.expanduser().resolve()
        if place.exists() and not place.is_dir():
            raise InputError(f"{folder} is no folder; name another")
        if place.is_dir() and any(place.iterdir()):
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


def _merged(name: str, adapter: Path) -> tuple["Backbone", list[float]]:
    """A base with its full vocabulary, the adapter merged, and the bias of the 13 tokens."""
    from m2lib.model import load_adapter, merge_lora, reduce_vocabulary

    backbone = load_backbone(name, device="cpu", dtype="float32", reduce=False)
    model = backbone.model
    # An adapter fits the reduced model, which is the same blocks between another embedding and another head, and has
    # another config. Once the adapter is in the blocks, the full vocabulary's three are put back.
    config, embedding, head = copy.deepcopy(model.config), model.get_input_embeddings(), model.get_output_embeddings()
    merge_lora(load_adapter(reduce_vocabulary(model, backbone.remap), adapter))
    bias = model.get_output_embeddings().bias.tolist()
    model.config = config
    config.rope_theta = config.rope_parameters["rope_theta"]  # where transformers 4 and older engines look for it
    model.set_input_embeddings(embedding)
    model.set_output_embeddings(head)
    return backbone, bias


def _generation_config(remap: TokenRemap, bias: list[float]) -> "GenerationConfig":
    """Which token ends a text, and each token's bias where there is any, in lists, which JSON keeps."""
    from transformers import GenerationConfig

    end = remap.backbone_ids[PAD_ID]
    pairs = [[[token], value] for token, value in zip(remap.backbone_ids, bias, strict=True)]
    more = {"sequence_bias": pairs} if any(bias) else {}
    return GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=end, **more)


def _known(adapter: Path) -> str:
    """The sections of an adapter's own card that `facts` are for; empty where it has no such card."""
    card = adapter / CARD_FILE
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = re.search(r"^## (Data|Training|Errors)\n.*(?=^## Base and licence)", text, re.M | re.S)
    return found[0].strip() if found else ""


def _check_tokenizer(folder: Path, remap: TokenRemap) -> None:
    """InputError where transformers reads the tokenizer's files in another way than this library."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of many kinds; each means that the card's code would not run
        raise InputError(
            f"transformers cannot read this backbone's tokenizer ({first_line(error)}); take the files from its source"
        ) from error
    found = TokenRemap.from_tokenizer(tokenizer).backbone_ids
    plain = tokenizer.convert_tokens_to_ids(list(SYMBOLS[1:]))  # as the card's code asks
    if not found[1:] == remap.backbone_ids[1:] == tuple(plain):
        raise InputError(f"transformers reads this backbone's tokenizer otherwise, {found} for {remap.backbone_ids}")
