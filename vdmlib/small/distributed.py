"""Several processes that train together, by torchrun and DistributedDataParallel alone (chapter 9)."""

import os

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Processes:
    """This process among those that torchrun has started, or the only one.

    Attributes:
        rank, world: which process this is, and how many there are.
    """

    def __init__(self):
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This process's clips of every batch."""
        return slice(self.rank, None, self.world)

    def meet(self, device: torch.device) -> torch.device:
        """Find the others; returns this process's own device of that kind."""
        if self.world == 1:
            return device
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(device)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        # Nobody goes on before the others are here: what the first has written, all can read.
        torch.distributed.barrier()
        return device

    def parallel(self, stage: nn.Module) -> nn.Module:
        """The stage, whose gradients are from now on the mean over all processes."""
        return stage if self.world == 1 else nn.parallel.DistributedDataParallel(stage)

    def mean(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The loss of the whole batch, from those of the shares."""
        if self.world > 1:
            torch.distributed.all_reduce(loss)
            loss = loss / self.world
        return loss

    def agreed(self, answer: bool, device: torch.device) -> bool:
        """The first process's answer, in all processes."""
        if self.world == 1:
            return answer
        flag = torch.tensor(float(answer), device=device)
        torch.distributed.broadcast(flag, 0)
        return bool(flag)
