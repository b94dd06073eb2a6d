"""Train by how-to pages in one of two processes, with every kind of noise; run by torchrun.

two_processes.py FOLDER PAGE …      leaves FOLDER/<page>.<kind>.<rank>.pt: the state dict after two steps,
                                    and this process's batches
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pages import KINDS, ON_OPTIMIZER, Images, blocks, images, net, resnet, run
from torch.utils.data import DataLoader, TensorDataset

START, _, ON_GRADIENTS = blocks("ddp")


def whole(state: dict) -> dict:
    """Return a copy of a state dict, of the whole of tensors that this process may hold a shard of."""
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).clone()
        for name, value in state.items()
    }


def with_torch_alone(page: str, noise: Any) -> tuple[dict, Any]:
    """Train by ddp.md or fsdp.md: two steps of eight images, four in each process."""
    names = {
        "model": net(),
        "noise": noise,
        "dataset": TensorDataset(*images(16)),
        "dist": dist,
        "torch": torch,
    }
    names = run(blocks(page)[1], **names)
    return names, names["loader"]


def with_accelerate(page: str, noise: Any) -> tuple[dict, Any]:
    """Train by accelerate.md: two steps of two batches in each process."""
    loader = DataLoader(TensorDataset(*images(32)), batch_size=4)
    names = run(blocks(page)[0], model=net(), noise=noise, loader=loader)
    return names | {"model": names["model"].module}, names["loader"]


def with_lightning(page: str, noise: Any) -> tuple[dict, Any]:
    """Train by lightning.md, without the average: two steps of four batches in each process."""
    code = blocks(page)[0].replace("callbacks=[average]", 'accelerator="cpu", devices=2, strategy="ddp"')
    loader = DataLoader(TensorDataset(*images(64)), batch_size=4)
    names = run(code, model=net(), noise=noise, loader=loader, validation_loader=loader)
    return names, names["trainer"].train_dataloader


def with_fabric(page: str, noise: Any) -> tuple[dict, Any]:
    """Train by the part of lightning.md on Fabric: two steps of one batch in each process."""
    imports, _, _ = blocks("lightning")[0].partition("class ")
    code = blocks("lightning")[2].replace(
        "L.Fabric(", 'L.Fabric(accelerator="cpu", devices=2, strategy="ddp", '
    )
    batches = DataLoader(TensorDataset(*images(16)), batch_size=4)
    names = run(imports, code, model=net(), noise=noise, loader=batches)
    return names, names["fabric"].setup_dataloaders(batches)


def with_hugging_face(page: str, noise: Any) -> tuple[dict, Any]:
    """Train by hugging-face.md: two steps of two batches in each process."""
    names = run(blocks(page)[0], model=resnet(), noise=noise, dataset=Images(64))
    return names, names["dataset"].batches()


TRAIN = {
    "ddp": with_torch_alone,
    "fsdp": with_torch_alone,
    "accelerate": with_accelerate,
    "hugging-face": with_hugging_face,
    "lightning": with_lightning,
    "fabric": with_fabric,
}


def noise_on_gradients(names: dict) -> tuple[dict, dict]:
    """Go on with noise on averaged gradients; return the state dict before and after."""
    names["handle"].remove()
    before = whole(names["model"].state_dict())
    run(ON_GRADIENTS, **names, parameter_noise=ON_OPTIMIZER["scripted"], validate=lambda: 1.0)
    return before, whole(names["model"].state_dict())


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    os.chdir(folder)
    run(START)
    rank = dist.get_rank()
    for page in sys.argv[2:]:
        for kind, noise in KINDS.items():
            names, loader = TRAIN[page](page, noise)
            torch.save(
                (whole(names["model"].state_dict()), list(loader)), folder / f"{page}.{kind}.{rank}.pt"
            )
        if page == "ddp":
            torch.save(noise_on_gradients(names), folder / f"gradients.{rank}.pt")
    dist.destroy_process_group()
