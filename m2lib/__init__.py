"""Fine-tune a small language model to forecast predator-prey series written as text.

`load_series` brings the series, `encode` writes them as text, `load_backbone` loads a language
model, `train` trains it on token ids, and `forecast` forecasts with it. (Tables of your own are for
`m2tables`, beside this package.)

Five packages on two floors; each imports only from floors below it: `decoding` and `training`;
`model`, `series` and `accounting`. They, and the names of `__init__.pyi`, are loaded when first
used, so `import m2lib` waits for nothing, and a program without a model does not wait for torch.
"""

import lazy_loader

from .threads import wait_briefly

wait_briefly()  # while torch is not loaded yet

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
