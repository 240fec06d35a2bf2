"""What is between the service and its machine: cores, processors, the process itself, its output."""
