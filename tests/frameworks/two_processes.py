"""Train by a how-to page in one of two processes, with every kind of noise; run by torchrun.

two_processes.py PAGE FOLDER      leaves FOLDER/<kind>.<rank>.pt: the state dict after two steps
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from pages import KINDS, ON_OPTIMIZER, blocks, images, net, run
from torch.utils.data import TensorDataset


def whole(state: dict) -> dict:
    """Return a copy of a state dict, of the whole of tensors that this process may hold a shard of."""
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).clone()
        for name, value in state.items()
    }


def train(page: str, folder: Path) -> None:
    start, training, *on_optimizer = blocks(page)
    run(start)
    for kind, noise in KINDS.items():
        names = run(
            training, model=net(), noise=noise, dataset=TensorDataset(*images(16)), dist=dist, torch=torch
        )
        torch.save(whole(names["model"].state_dict()), folder / f"{kind}.{dist.get_rank()}.pt")
    for block in on_optimizer:
        names["handle"].remove()
        before = whole(names["model"].state_dict())
        run(block, **names, parameter_noise=ON_OPTIMIZER["scripted"], validate=lambda: 1.0)
        torch.save((before, whole(names["model"].state_dict())), folder / f"optimizer.{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(sys.argv[1], Path(sys.argv[2]))
