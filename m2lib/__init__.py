"""Fine-tune a small language model to forecast predator-prey series written as text.

Eight packages on five floors; each imports only from floors below it: `paper` and the `m2` command; `study` and
`forecaster`; `forecasting` and `training`; `model`; `series` and `accounting`. The names below are handed on when they
are first used, so that `import m2lib` waits for nothing, and a program that needs no model does not wait for torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
