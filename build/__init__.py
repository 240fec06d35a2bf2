"""The build stage: turns weights and photos into a bundle of TFLite variants."""
