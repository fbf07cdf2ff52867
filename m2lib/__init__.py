"""Fine-tune a small language model to forecast predator-prey series written as text.

Data flows one way: codec -> data -> vocabulary -> backbones -> forecast -> metrics -> experiments -> results ->
figures. Importing m2lib imports none of them, so that a notebook that needs no model does not wait for torch.
"""

__version__ = "0.1.0"
