"""The long fault sweeps, run by make faults."""
