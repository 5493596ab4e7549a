"""What ranks do together: the work queue, groups, devices, the watchdog."""
