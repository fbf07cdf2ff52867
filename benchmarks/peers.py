"""The peers are what one would otherwise run, in their usual settings.

These are transformers' generate, PEFT with accelerate's loop, and a plain loop of our own.
"""

import time

import numpy as np
import torch
from transformers import PreTrainedModel

from m2lib.model.lora import inject_lora, trainable
from m2lib.model.vocabulary import PAD_ID, TokenRemap
from m2lib.training.config import TrainConfig
from m2lib.training.windows import batch_of

NEW_TOKENS = 220


def generate_one_by_one(
    model: PreTrainedModel, remap: TokenRemap, prompts: list[list[int]]
) -> None:
    """Generate 220 tokens for one series at a time, by a full-vocabulary model: row (a)."""
    backbone_ids = torch.tensor(remap.backbone_ids)
    for prompt in prompts:
        tokens = backbone_ids[torch.tensor([prompt])].to(model.device)
        _generate(model, tokens, torch.ones_like(tokens), pad=remap.backbone_ids[PAD_ID])


def generate_batched(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    """Generate 220 tokens for all series in one left-padded batch, by a reduced model: row (b)."""
    width = max(map(len, prompts))
    tokens = torch.full((len(prompts), width), PAD_ID)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    _generate(model, tokens.to(model.device), mask.to(model.device), pad=PAD_ID)


def _generate(model: PreTrainedModel, tokens: torch.Tensor, mask: torch.Tensor, pad: int) -> None:
    """Let transformers write NEW_TOKENS tokens for each row, greedily, whatever they are."""
    with torch.inference_mode():
        model.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=pad,
        )


class PeftTraining:
    """PEFT adapters on q and v of a full-vocabulary model, with AdamW and accelerate: row (c).

    precision: `no` (float32), or `bf16` (accelerate's autocast over float32 weights).
    """

    def __init__(self, model: PreTrainedModel, remap: TokenRemap, rank: int, precision: str):
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from peft import LoraConfig, get_peft_model

        AcceleratorState._reset_state(reset_partial_state=True)
        # Without `device_placement` the model stays where it is. Accelerate would move it to the
        # first card, whichever `M2_DEVICE` names.
        self.accelerator = Accelerator(
            device_placement=False, mixed_precision=precision, cpu=model.device.type == "cpu"
        )
        self.backbone_ids = torch.tensor(remap.backbone_ids)
        config = LoraConfig(
            r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, config)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)

    def step(self, windows: torch.Tensor) -> float:
        """Take one step on windows (B, length) of our ids, without pads; returns the loss."""
        tokens = self.backbone_ids[windows].to(self.model.device)
        loss = self.model(tokens, labels=tokens).loss
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def plain_steps(
    model: PreTrainedModel, windows: np.ndarray, config: TrainConfig
) -> tuple[float, list[float]]:
    """Train our adapters in a plain loop, on the model and its attention as transformers has them.

    Returns the seconds of the fastest step, the first left out, and the losses.
    """
    generator = torch.Generator().manual_seed(config.seed)
    inject_lora(model, config.rank, config.alpha, generator=generator)
    weights = trainable(model).values()
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    losses = []
    times = []
    for step in range(config.steps):
        start = time.perf_counter()
        tokens = torch.from_numpy(batch_of(step, windows, config)).to(model.device)
        logits = model(tokens).logits
        # cross_entropy wants classes second: (B, vocabulary, length).
        predictions = logits[:, :-1].transpose(1, 2)
        loss = torch.nn.functional.cross_entropy(predictions, tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
    return min(times[1:], default=times[0]), losses
