"""What lectures and paper draw beside plain plots, each from a config, the codec or a record."""

from .model import (
    architecture,
    looks_back,
    lora_layer,
    marked_text,
    matrices,
    thin_matrices,
    thin_path,
)
from .costs import (
    PARTS,
    block_products,
    budget_lines,
    cost_ladder,
    flop_shares,
    flops_per_token,
    gradient_flow,
)
from .series import (
    autocorrelation,
    encoding,
    one_system,
    phase_plane,
    splits,
    windows,
)
from .results import (
    descents,
    fitted,
    forecasts,
    learning,
    token_costs,
)
