"""ParaView states and the scripts that render with them (data, not code to import)."""
