"""Several processes that train one adapter together, as `torchrun` or `accelerate launch` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: its index of how many. One alone by default.

    Each computes the gradient of its share of a batch; `total` adds the shares up, so that all take the same step.
    The lead, index 0, alone writes files.
    """

    index: int = 0
    count: int = 1

    @property
    def lead(self) -> bool:
        return self.index == 0

    def share(self, batch):
        """Every count-th row of a batch."""
        return batch[self.index :: self.count]

    def total(self, tensors: list["torch.Tensor"]) -> None:
        """Replace float tensors of one device by their sums over all processes, in one message."""
        if self.count == 1:
            return
        import torch

        message = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(message)
        for tensor, summed in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    @contextmanager
    def lead_first(self) -> Iterator[None]:
        """Run the block in the lead, then in the others: for what the lead writes and all read."""
        import torch

        if not self.lead:
            torch.distributed.barrier()
        yield
        if self.lead and self.count > 1:
            torch.distributed.barrier()

    def meet(self) -> None:
        """Wait until all have come so far."""
        with self.lead_first():
            pass


def join_processes() -> Processes:
    """Meet the other processes of this launch, where there are others: `WORLD_SIZE` in the environment says so.

    On CUDA each process takes a card of its own (`backbones.best_device`); with M2_DEVICE=cpu they talk over gloo.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return Processes()
    from accelerate import PartialState

    # Others wait while one evaluates or forecasts; the default patience of minutes would end the run.
    state = PartialState(cpu=os.environ.get("M2_DEVICE") == "cpu", timeout=timedelta(hours=12))
    return Processes(state.process_index, state.num_processes)
