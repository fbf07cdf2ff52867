"""The grammar of a step, such as `d{1,4},d{1,4};`, as a finite-state machine.

A model that may choose only what the grammar allows writes text that always parses. A state says what has been written
of the present step. With two variables of four digits there are ten, numbered 5 * variable (0 prey, 1 predator) +
digits of that variable so far::

    state   written so far   may come next   a digit leads to   the separator leads to
      0                      digit                  1
      1     d                digit or ,             2                     5
      2     dd               digit or ,             3                     5
      3     ddd              digit or ,             4                     5
      4     dddd             ,                                            5
      5     ...,             digit                  6
      6     ...,d            digit or ;             7                     0
      7     ...,dd           digit or ;             8                     0
      8     ...,ddd          digit or ;             9                     0
      9     ...,dddd         ;                                            0
"""

import torch

from m2lib.model import COMMA_ID, PAD_ID, SEMICOLON_ID, SYMBOLS
from m2lib.series import STUDY, TextFormat


class StepGrammar:
    """The finite-state machine of a text format's steps, one state for each row that is decoded.

    A prompt ends on a step boundary, so every row starts in state 0.

    Parameters
    ----------
    samples : int
        How many rows start, one a sample.
    device : torch.device
        Where the logits will be.
    text_format : TextFormat, optional
        Says how many variables and digits a step has.

    Attributes
    ----------
    allowed : Tensor of bool, shape (states, 13)
        Which token ids may come next in each state; there are variables * (digits + 1) states.
    following : Tensor of int64, shape (states, 13)
        The state that each token leads to.
    state : Tensor of int64, shape (samples,)
        The present state of each row. When rows leave the batch, `generate` keeps the states of the others.
    """

    def __init__(self, samples: int, device: torch.device, text_format: TextFormat = STUDY):
        variables, most = text_format.variables, text_format.digits
        states = variables * (most + 1)
        allowed = torch.zeros(states, len(SYMBOLS), dtype=torch.bool)
        following = torch.zeros(states, len(SYMBOLS), dtype=torch.long)
        digit_ids = slice(PAD_ID + 1, COMMA_ID)  # ids 1-10: the digits stand between the pad and the comma
        for variable, separator in enumerate([COMMA_ID] * (variables - 1) + [SEMICOLON_ID]):
            for digits in range(most + 1):
                state = (most + 1) * variable + digits
                if digits < most:
                    allowed[state, digit_ids] = True
                    following[state, digit_ids] = state + 1
                if digits > 0:
                    allowed[state, separator] = True
                    # To the next variable's first state; the semicolon, after the last variable, to state 0.
                    following[state, separator] = (most + 1) * (variable + 1) % states
        self.allowed, self.following = allowed.to(device), following.to(device)
        self.state = torch.zeros(samples, dtype=torch.long, device=device)

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits, with minus infinity for each token that the grammar forbids.

        Parameters
        ----------
        logits : Tensor of float, shape (samples, 13)
            Of each row's next token.

        Returns
        -------
        Tensor of float, shape (samples, 13)
            A masked copy. A token at minus infinity has probability zero.
        """
        return logits.masked_fill(~self.allowed[self.state], float("-inf"))

    def advance(self, token: torch.Tensor) -> None:
        """Move on by the tokens chosen.

        Parameters
        ----------
        token : Tensor of int64, shape (samples,)
            One id a row. Rows that are done feed pads, which lead back to state 0.
        """
        self.state = self.following[self.state, token]
