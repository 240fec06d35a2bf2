"""Photos: folders, splits, what can be read, random views."""
