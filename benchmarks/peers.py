"""What one would otherwise run: transformers' generate, and PEFT with an accelerate loop, in their
usual settings."""

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
    """(a) A full-vocabulary model, one series at a time, 220 tokens each."""
    kept = torch.tensor(remap.backbone_ids)
    for prompt in prompts:
        tokens = kept[torch.tensor([prompt])].to(model.device)
        _generate(model, tokens, torch.ones_like(tokens), pad=remap.backbone_ids[PAD_ID])


def generate_batched(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    """(b) A reduced model, all prompts in one left-padded batch, 220 tokens each."""
    width = max(map(len, prompts))
    tokens = torch.tensor(
        [[PAD_ID] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device
    )
    mask = torch.tensor(
        [[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device
    )
    _generate(model, tokens, mask, pad=PAD_ID)


def _generate(model: PreTrainedModel, tokens: torch.Tensor, mask: torch.Tensor, pad: int) -> None:
    settings = {
        "max_new_tokens": NEW_TOKENS,
        "min_new_tokens": NEW_TOKENS,
        "do_sample": False,
        "pad_token_id": pad,
    }
    with torch.inference_mode():
        model.generate(tokens, attention_mask=mask, **settings)


class PeftTraining:
    """(c) PEFT adapters on q and v of a full-vocabulary model, AdamW, and accelerate's loop and
    autocast.

    precision: `no` (float32), or `bf16` (autocast over float32 weights).
    """

    def __init__(self, model: PreTrainedModel, remap: TokenRemap, rank: int, precision: str):
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from peft import LoraConfig, get_peft_model

        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(mixed_precision=precision, cpu=model.device.type == "cpu")
        self.kept = torch.tensor(remap.backbone_ids)
        config = LoraConfig(
            r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, config)
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.0
        )
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)

    def step(self, windows: torch.Tensor) -> float:
        """One step on windows (B, length) of our ids, without pads."""
        tokens = self.kept[windows].to(self.model.device)
        loss = self.model(tokens, labels=tokens).loss
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def plain_steps(
    model: PreTrainedModel, windows: np.ndarray, config: TrainConfig
) -> tuple[float, list[float]]:
    """Our adapters in a plain loop: the model and its attention as transformers has them.

    Returns the seconds of the fastest step, the first left out, and the losses.
    """
    inject_lora(
        model, config.rank, config.alpha, generator=torch.Generator().manual_seed(config.seed)
    )
    optimizer = torch.optim.AdamW(
        trainable(model).values(), lr=config.learning_rate, weight_decay=0.0
    )
    losses, times = [], []
    for step in range(config.steps):
        started = time.perf_counter()
        tokens = torch.from_numpy(batch_of(step, windows, config)).to(model.device)
        logits = model(tokens).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        times.append(time.perf_counter() - started)
    return min(times[1:], default=times[0]), losses
