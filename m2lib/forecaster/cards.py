"""Cards: the README.md of an adapter's folder and of an exported model's.

Its text is in cards/model.md, a Jinja template, and its facts are those of the adapter
(`m2lib.forecaster.adapters.FACTS_FILE`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from m2lib.forecaster.evaluation import four_digits
from m2lib.forecaster.views import PLAIN, View
from m2lib.model import BACKBONES, hub_name
from m2lib.series import FORECAST_STEPS, MOST_VARIABLES, TextFormat

TEMPLATE = Path(__file__).parent / "cards" / "model.md"
CARD_FILE = "README.md"


def model_card(
    backbone_name: str,
    text_format: TextFormat,
    facts: Mapping[str, Any],
    *,
    views: Sequence[View] = PLAIN,
    merged: bool = False,
    horizon: int = FORECAST_STEPS,
) -> str:
    """Return the README.md of a folder, as the hub shows it: YAML between `---`, then Markdown.

    The folder is an adapter's, or with `merged` one that `export` writes.
    """
    spec = BACKBONES.get(backbone_name)
    base = hub_name(backbone_name)  # the name itself, where it is of no known backbone
    data = ModelCardData(
        license=(spec.licence or None) if spec else None,
        base_model=base if base != backbone_name else None,
        library_name="transformers" if merged else "peft",
        pipeline_tag="time-series-forecasting",
        tags=["time-series", "forecasting", "lora", "m2lib"],
    )
    card = ModelCard.from_template(
        data,
        str(TEMPLATE),
        spec=spec,
        base=base,
        text_format=text_format,
        step=step_pattern(text_format),
        views=len(views),
        merged=merged,
        horizon=horizon,
        four_digits=four_digits,
        **facts,
    )
    return card.content


def step_pattern(text_format: TextFormat) -> str:
    """Return a step's regular expression, such as `[0-9]{1,4},[0-9]{1,4};` for two variables."""
    number = f"[0-9]{{1,{text_format.digits}}}"
    if text_format.variables:
        numbers = ",".join([number] * text_format.variables)
    else:  # any number of variables
        numbers = f"{number}(,{number}){{0,{MOST_VARIABLES - 1}}}"
    return f"{numbers};"
