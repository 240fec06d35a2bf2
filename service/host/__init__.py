"""What the system says of the machine and of this process."""
