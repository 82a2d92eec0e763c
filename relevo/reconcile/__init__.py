"""The loop that carries a rollout: `tick` is one look, `driver` repeats it under a lease, `snapshot` says what people see of it."""
