"""Model folders that transformers runs without this library.

The adapter is merged into the base model, which keeps its full vocabulary and its own tokenizer.
The reduced model's bias for each of its 13 tokens travels in the generation config.
"""

from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError
from transformers import GenerationConfig

from m2lib import model as models
from m2lib.errors import InputError, first_line
from m2lib.files import write_json
from m2lib.forecaster.adapters import VIEWS_FILE, base_here, read_facts, read_format, read_views
from m2lib.forecaster.cards import CARD_FILE, model_card
from m2lib.forecaster.views import PLAIN
from m2lib.series import FORECAST_STEPS, FORMAT_FILE, MOST_VARIABLES, TextFormat

GRAMMAR_FILE = "grammar.gbnf"
# Endings of files that one export may write and the next one not, such as a second file of weights
# or the chat template of a tokenizer.
OF_EXPORTS = (".json", ".safetensors", ".jinja")


def export(
    adapter: Path, folder: Path, *, backbone: str | None = None, force: bool = False
) -> Path:
    """Write a model folder that plain transformers runs.

    It holds weights, tokenizer, generation config, grammar and card. Its greedy forecasts, by the
    code in its card, are those of `m2lib.decoding.forecast`, token by token. The weights are
    float32, so that the sum of base and adapter is not rounded; whoever loads them may choose less.

    Parameters
    ----------
    adapter : Path
        The folder of the LoRA adapter to merge.
    folder : Path
        The folder to make. It appears when all is written, and not before.
    backbone : str, optional
        The base model, as in `m2lib.model.load_backbone`. Default: the adapter's.
    force : bool, optional
        Whether an earlier export may be replaced; nothing else ever is.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        Where the folder holds anything or cannot be written; for an adapter of another model; and
        where `m2lib.model.load_backbone` raises it.
    """
    export_folder = folder.expanduser().resolve()
    try:
        replaceable = force and (export_folder / GRAMMAR_FILE).is_file()
        if export_folder.exists() and any(export_folder.iterdir()) and not replaceable:
            raise InputError(
                f"{folder} is not empty; name another folder "
                "(--force, or force=True, replaces an earlier export and nothing else)"
            )
        # All is written beside the folder and then moved to its place. An earlier export moves into
        # the scratch folder, with which it is deleted; but what no export writes, such as a GGUF
        # that llama.cpp has made of it, moves on into the new one.
        export_folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(
            dir=export_folder.parent, prefix=f".{export_folder.name}.", suffix=".tmp"
        ) as scratch:
            new_folder = Path(scratch, "new")
            _write(new_folder, backbone or base_here(adapter), adapter)
            if export_folder.exists():
                old_folder = export_folder.rename(Path(scratch, "old"))
                for path in list(old_folder.iterdir()):
                    if path.suffix not in OF_EXPORTS and not (new_folder / path.name).exists():
                        path.rename(new_folder / path.name)
            new_folder.rename(export_folder)
    except (OSError, SafetensorError) as error:
        fault = getattr(error, "strerror", None) or first_line(error)
        raise InputError(
            f"cannot write {folder}: {fault}; free space there or choose another folder"
        ) from error
    return folder


def gbnf(text_format: TextFormat, horizon: int) -> str:
    """Return the grammar of a forecast of `horizon` steps, in the notation of llama.cpp."""
    if text_format.variables:
        step = ' "," '.join(["number"] * text_format.variables)
    else:  # any number of variables
        step = f'number ("," number){{0,{MOST_VARIABLES - 1}}}'
    return f"""\
# {horizon} steps; `root ::= step+` is any number of them
root ::= step{{{horizon}}}
step ::= {step} ";"
number ::= [0-9]{{1,{text_format.digits}}}
"""


def _write(folder: Path, name: str, adapter: Path) -> None:
    """Write an export: the merged model, its text format and views, its card and its grammar."""
    # These are read before the model, because then a file that is damaged is said at once.
    text_format = read_format(adapter)
    views = read_views(adapter)
    facts = read_facts(adapter)
    _write_model(folder, name, adapter)

    write_json(folder / FORMAT_FILE, text_format.settings())
    if views != PLAIN:
        write_json(folder / VIEWS_FILE, [asdict(view) for view in views])
    card = model_card(models.backbone_id(name), text_format, facts, views=views, merged=True)
    (folder / CARD_FILE).write_bytes(card.encode())
    (folder / GRAMMAR_FILE).write_bytes(gbnf(text_format, FORECAST_STEPS).encode())


def _write_model(folder: Path, name: str, adapter: Path) -> None:
    """Write a backbone with its whole vocabulary, with the adapter merged into it."""
    backbone = models.load_backbone(name, device="cpu", dtype="float32", reduce=False)
    model = backbone.model
    # An adapter fits the reduced model, which is the same blocks between another embedding and
    # another head, and has another config. Once the adapter is in the blocks, the full vocabulary's
    # three are put back.
    config = deepcopy(model.config)
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()
    reduced = models.load_adapter(models.reduce_vocabulary(model, backbone.remap), adapter)
    models.merge_lora(reduced)
    bias = reduced.get_output_embeddings().bias.tolist()
    model.config = config
    model.set_input_embeddings(embedding)
    model.set_output_embeddings(head)

    # Transformers 4 and older engines look for the rotary base here.
    config.rope_theta = config.rope_parameters["rope_theta"]
    model.save_pretrained(folder)
    models.share_weights(folder)
    backbone.tokenizer.save_pretrained(folder)
    ids = backbone.remap.backbone_ids
    end = ids[models.PAD_ID]
    GenerationConfig(
        do_sample=False,
        sequence_bias=[[[token], value] for token, value in zip(ids, bias, strict=True)],
        eos_token_id=end,
        pad_token_id=end,
    ).save_pretrained(folder)
