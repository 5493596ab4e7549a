"""Metrics at a point: full, by regression, capped; other measures, curvature, and tuning."""
