"""The options of the command line and the values they take, without TensorFlow."""
