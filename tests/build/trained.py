"""The record of a training, for tests that train nothing."""

from service.bundle.manifest import Training

TRAINING = Training(
    command="python -m build train",
    started_from="small.h5",
    started_from_sha256="0" * 64,
    tools={"tensorflow": "2"},
    images=(),
    seed=0,
    steps=7,
    batch_size=16,
    learning_rate=1e-5,
    seconds=2.5,
    losses={"kl_nats_before": 0.1},
)
