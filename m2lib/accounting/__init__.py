"""What a pass costs in FLOPs, by three conventions: the coursework's rules, the report's own, the hardware's."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
