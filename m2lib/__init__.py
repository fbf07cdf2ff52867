"""Fine-tune a small language model to forecast predator-prey series written as text.

Data flows one way: codec -> data -> vocabulary -> weights, backbones -> lora, train -> forecast -> metrics -> results,
experiments -> run -> figures. Importing m2lib imports none of them, so that a notebook that needs no model does not
wait for torch.
"""

__version__ = "0.1.0"
