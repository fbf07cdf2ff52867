"""The report's experiments: declared as data, run, recorded, and counted against the budget."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
