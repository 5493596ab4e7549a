"""Numbers that describe a surface: shape measures, topology, smoothing."""
