"""The least that a machine could take: the operations of a model's weights at the rate of a product of two matrices."""

import time
from collections.abc import Callable

import torch

from lib.memory.architectures import random_model

SIZE, TRIES = 1536, 5


def flops_a_second(device: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Floating-point operations a second of a product of two float32 matrices, the best of a few.

    Args:
        device: `cpu` or `cuda`.
        clock: tells the seconds; `time.process_time` those of this process alone.
    """
    matrix, seconds = torch.ones(SIZE, SIZE, device=device), []
    for _ in range(TRIES):
        began = clock()
        (matrix @ matrix).sum().item()  # waits for a GPU
        seconds.append(clock() - began)
    return 2 * SIZE**3 / min(seconds)


def weights_a_token(reference: str) -> int:
    """The weights that each token of a prompt meets: all but the embeddings, of which it takes a row."""
    model = random_model(reference, "float32", "meta")
    return model.num_parameters() - model.get_input_embeddings().weight.numel()
