"""What a user takes home: a forecaster of one's own tables, in the conventions of chronos, pandas and PEFT."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
