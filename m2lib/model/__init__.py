"""Which language model, and what is changed about it: 13 tokens, LoRA adapters, a faster attention."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
