"""How a run is executed: devices, the training loop, evaluation, checkpoints, stage times."""
