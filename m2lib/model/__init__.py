"""Which language model, and what is changed about it: 13 tokens, LoRA adapters, a faster attention."""

from .adapter_files import CONFIG_FILE, fault, load_adapter, save_adapter
from .attention import blocked_attention, causal_attention
from .backbones import (
    Backbone, backbone_config, load_backbone, meta_model, parameter_counts, shuffle_weights, weight_hash,
)  # fmt: skip
from .devices import chosen_device, chosen_dtype, processor_name
from .lora import (
    ALL_TARGETS, LoRALinear, adapter_settings, inject_lora, lora_layers, merge_lora, train_everything, trainable,
)  # fmt: skip
from .vocabulary import (
    COMMA_ID, PAD_ID, SEMICOLON_ID, SYMBOLS, TokenRemap, build_tokenizer, ids_to_text, reduce_vocabulary, text_to_ids,
)  # fmt: skip
from .weights import BACKBONES, backbone_id, fetch_backbone, hub_name, is_random, quiet_transformers

__all__ = [
    "ALL_TARGETS", "BACKBONES", "COMMA_ID", "CONFIG_FILE", "PAD_ID", "SEMICOLON_ID", "SYMBOLS", "Backbone",
    "LoRALinear", "TokenRemap", "adapter_settings", "backbone_config", "backbone_id", "blocked_attention",
    "build_tokenizer", "causal_attention", "chosen_device", "chosen_dtype", "fault", "fetch_backbone", "hub_name",
    "ids_to_text", "inject_lora", "is_random", "load_adapter", "load_backbone", "lora_layers", "merge_lora",
    "meta_model", "parameter_counts", "processor_name", "quiet_transformers", "reduce_vocabulary", "save_adapter",
    "shuffle_weights", "text_to_ids", "train_everything", "trainable", "weight_hash",
]  # fmt: skip
