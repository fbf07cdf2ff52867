"""The language model, and what is changed about it.

It has 13 tokens, LoRA adapters, a faster attention, and products in 8 bits.
"""

from .adapter_files import CONFIG_FILE, adapter_hash, load_adapter, save_adapter
from .attention import blocked_attention, causal_attention
from .backbones import (
    Backbone,
    backbone_config,
    load_backbone,
    meta_model,
    shuffle_weights,
    weight_hash,
)
from .devices import (
    INT8,
    best_dtype,
    chosen_device,
    chosen_dtype,
    int8_is_best,
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
from .weights import BACKBONES, backbone_id, fetch_backbone, hub_name, share_weights
