"""Which points, in which order: coarse to fine, and adaptive refinement. Needs numpy only."""
