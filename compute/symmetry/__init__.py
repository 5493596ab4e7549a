"""Permutations of hidden units that leave a network's function unchanged, and the best of them to match another network."""
