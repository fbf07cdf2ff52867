"""Several processes that train one adapter together, as `torchrun` or `accelerate launch` starts them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from m2lib import settings
from m2lib.files import InputError, first_line

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Processes:
    """This process among those that train together, one alone by default.

    Each computes the gradient of its share of a batch; `total` adds the shares up, so that all take the same step.
    The lead, index 0, alone writes files.
    """

    index: int = 0
    """Which one this is, from 0 to count - 1."""
    count: int = 1
    """How many there are."""

    @property
    def lead(self) -> bool:
        """Whether this one writes files.

        Returns
        -------
        bool
            True for index 0.
        """
        return self.index == 0

    def share(self, batch: "np.ndarray | torch.Tensor") -> "np.ndarray | torch.Tensor":
        """The rows of a batch that are this process's to compute.

        Parameters
        ----------
        batch : ndarray or Tensor, shape (rows, ...)
            The same in every process.

        Returns
        -------
        ndarray or Tensor, shape (about rows / count, ...)
            Every count-th row from the index-th on: 5 rows go to 3 processes as rows 0 and 3, 1 and 4, 2.
        """
        return batch[self.index :: self.count]

    def total(self, tensors: list["torch.Tensor"]) -> None:
        """Replace tensors by their sums over all processes, in place and in one message.

        Parameters
        ----------
        tensors : list of Tensor of float
            Of one dtype and on one device; in every process the same number, shapes and order.
        """
        if self.count == 1:
            return
        import torch

        # Tensors of shapes (2, 3) and (4,) travel as one row of 10 numbers, and come back as pieces of 6 and 4.
        message = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(message)
        for tensor, summed in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    @contextmanager
    def lead_first(self) -> Iterator[None]:
        """Run a `with` block in the lead, then in the others: for what the lead writes and all read.

        Yields
        ------
        None
            In the lead at once, in the others when the lead has left the block.
        """
        import torch

        # A barrier opens when all have come to it. The others come to it before the block, the lead after it.
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

    On CUDA each process takes a card of its own (`m2lib.model.backbones.best_device`); with M2_DEVICE=cpu they talk
    over gloo.

    Returns
    -------
    Processes
        This one's place among them.

    Raises
    ------
    InputError
        Where a launcher's variable is missing or cannot be, or the processes do not come together.
    """
    count = settings.launcher("WORLD_SIZE") or 1
    if count < 2:
        return Processes()
    for name in ("RANK", "LOCAL_RANK"):  # without them each would wait for the others for ever, or train alone
        index = settings.launcher(name)
        if index is None or index >= count:
            said = "not set" if index is None else index
            raise InputError(f"{name} is {said}, but WORLD_SIZE is {count}; start the processes with torchrun")
    from accelerate import PartialState

    try:
        # Others wait while one evaluates or forecasts; the default patience of minutes would end the run.
        state = PartialState(cpu=settings.read("M2_DEVICE") == "cpu", timeout=timedelta(hours=12))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"cannot join the other processes: {first_line(error)}; torchrun starts them") from error
    return Processes(state.process_index, state.num_processes)
