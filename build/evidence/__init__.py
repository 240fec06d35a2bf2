"""What a bundle's numbers are, and how they are shown."""
