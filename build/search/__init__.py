"""The search for weights' steps that lose least for the bytes that they take."""
