"""Directions through parameter space: random, between checkpoints, from files; and the plane that they span."""
