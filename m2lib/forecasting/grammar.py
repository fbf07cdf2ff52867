"""The grammar."""

import torch

from m2lib.model.vocabulary import COMMA_ID, PAD_ID, SEMICOLON_ID, SYMBOLS


class StepGrammar:
    """The finite-state machine of `d{1,4},d{1,4};`, one state a sample.

    State 5 * variable + digits so far: 0-4 while the prey is written, 5-9 while the predator is. A prompt ends on a
    step boundary, so every sample starts in state 0.
    """

    def __init__(self, samples: int, device: torch.device):
        allowed = torch.zeros(10, len(SYMBOLS), dtype=torch.bool)
        following = torch.zeros(10, len(SYMBOLS), dtype=torch.long)
        digit_ids = slice(PAD_ID + 1, COMMA_ID)
        for variable, separator in enumerate((COMMA_ID, SEMICOLON_ID)):
            for digits in range(5):
                state = 5 * variable + digits
                if digits < 4:
                    allowed[state, digit_ids] = True
                    following[state, digit_ids] = state + 1
                if digits > 0:
                    allowed[state, separator] = True
                    following[state, separator] = 5 * (1 - variable)
        self.allowed, self.following = allowed.to(device), following.to(device)
        self.state = torch.zeros(samples, dtype=torch.long, device=device)

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """logits (samples, 13) with minus infinity where the grammar forbids the token."""
        return logits.masked_fill(~self.allowed[self.state], float("-inf"))

    def advance(self, token: torch.Tensor) -> None:
        """Move on by the tokens (samples,) chosen. Samples that are done feed pads, which lead back to state 0."""
        self.state = self.following[self.state, token]
