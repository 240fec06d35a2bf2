"""From a network and recipes to a bundle."""
