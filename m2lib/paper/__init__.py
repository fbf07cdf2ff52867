"""What a reader sees: plots, diagrams, the report's figures and numbers, the PDF."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
