"""The forward pass at speed: folding, fusing, precision, batches, batch norm."""
