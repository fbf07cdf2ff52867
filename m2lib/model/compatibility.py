"""What transformers calls by other names in other versions, and nothing else: the rest of the library has one name."""

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def cache_argument(model: "PreTrainedModel") -> str:
    """What the model calls its KV cache: transformers 5.24 renamed the argument.

    Parameters
    ----------
    model : PreTrainedModel
        Whose `forward` is asked.

    Returns
    -------
    str
        `cache`, or `past_key_values` in older versions.
    """
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def checkpoint_activations(model: "PreTrainedModel", wanted: bool) -> None:
    """Turn gradient checkpointing on or off: transformers 5.24 renamed it to activation checkpointing.

    Parameters
    ----------
    model : PreTrainedModel
        While it is on, a forward pass in training mode keeps each layer's input only, and the backward pass computes
        the rest again.
    wanted : bool
        Whether it is to be on.
    """
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if wanted:
        getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{kind}_checkpointing_disable")()
