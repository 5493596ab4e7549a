"""What is evaluated: checkpoints, models, data, losses, and the user code that defines them."""
