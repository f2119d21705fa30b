"""One of the processes of a shared training whose memory suffices for one example at a time."""

from __future__ import annotations

import torch

from tunesmith.engine.training import distributed
from tunesmith.engine.training.loss import LossComputation

_backward = LossComputation.backward


def _small(self, batch, hidden, weights):
    if distributed.rank() == 1 and batch.inputs.shape[0] > 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return _backward(self, batch, hidden, weights)


def train_worker(config):
    """Run as one of Ray's workers."""
    from tunesmith.engine.jobs import ray_training

    LossComputation.backward = _small
    ray_training.train_worker(config)


if __name__ == "__main__":
    from tunesmith.engine.jobs.torchrun_training import main

    LossComputation.backward = _small
    main()
