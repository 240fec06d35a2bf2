"""The board's sensors, from the files under /sys: energy, temperatures, CPU frequencies."""
