"""The machine and the process that the service runs in: cores, processors, memory, output."""
