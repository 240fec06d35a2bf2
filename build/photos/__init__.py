"""Photos: folders, splits, which files can be read, random views."""
