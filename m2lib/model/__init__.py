"""The language model, and what is changed about it.

It has 13 tokens, LoRA adapters, and a faster attention.
"""

from .adapter_files import (
    ADAPTER_FILE,
    CONFIG_FILE,
    adapter_hash,
    load_adapter,
    save_adapter,
)
from .attention import blocked_attention, causal_attention
from .backbones import (
    Backbone,
    backbone_config,
    load_backbone,
    meta_model,
    shuffle_weights,
    weight_hash,
)
from .catalogue import BACKBONES, DEFAULT_BACKBONE, chosen_backbone, hub_name
from .devices import (
    chosen_device,
    chosen_dtype,
    fastest_dtype,
    processor_name,
)
from .lora import (
    ALL_TARGETS,
    LoRALinear,
    adapter_settings,
    inject_lora,
    lora_layers,
    merge_lora,
    train_everything,
    trainable,
)
from .vocabulary import (
    COMMA_ID,
    PAD_ID,
    SEMICOLON_ID,
    SYMBOLS,
    TokenRemap,
    ids_to_text,
    reduce_vocabulary,
    text_to_ids,
)
from .weights import backbone_id, fetch_backbone

__all__ = [
    "ADAPTER_FILE",
    "ALL_TARGETS",
    "BACKBONES",
    "COMMA_ID",
    "CONFIG_FILE",
    "DEFAULT_BACKBONE",
    "PAD_ID",
    "SEMICOLON_ID",
    "SYMBOLS",
    "Backbone",
    "LoRALinear",
    "TokenRemap",
    "adapter_hash",
    "adapter_settings",
    "backbone_config",
    "backbone_id",
    "blocked_attention",
    "causal_attention",
    "chosen_backbone",
    "chosen_device",
    "chosen_dtype",
    "fastest_dtype",
    "fetch_backbone",
    "hub_name",
    "ids_to_text",
    "inject_lora",
    "load_adapter",
    "load_backbone",
    "lora_layers",
    "merge_lora",
    "meta_model",
    "processor_name",
    "reduce_vocabulary",
    "save_adapter",
    "shuffle_weights",
    "text_to_ids",
    "train_everything",
    "trainable",
    "weight_hash",
]
