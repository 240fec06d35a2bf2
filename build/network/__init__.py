"""The network: its graph, and where its weights come from."""
