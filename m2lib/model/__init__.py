"""The language model, and what is changed about it.

It has 13 tokens, LoRA adapters, a faster attention, and products in 8 bits.
"""

from .adapter_files import (
    ADAPTER_FILE,
    CONFIG_FILE,
    adapter_hash,
    load_adapter,
    save_adapter,
    written_by,
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
    INT8,
    best_dtype,
    chosen_device,
    chosen_dtype,
    fastest_dtype,
    int8_is_best,
    measured_once,
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
from .products import int8_product, product_with
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
from .weights import backbone_id, fetch_backbone, share_weights

__all__ = [
    "ADAPTER_FILE",
    "ALL_TARGETS",
    "BACKBONES",
    "COMMA_ID",
    "CONFIG_FILE",
    "DEFAULT_BACKBONE",
    "INT8",
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
    "best_dtype",
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
    "int8_is_best",
    "int8_product",
    "load_adapter",
    "load_backbone",
    "lora_layers",
    "measured_once",
    "merge_lora",
    "meta_model",
    "processor_name",
    "product_with",
    "reduce_vocabulary",
    "save_adapter",
    "share_weights",
    "shuffle_weights",
    "text_to_ids",
    "train_everything",
    "trainable",
    "weight_hash",
    "written_by",
]
