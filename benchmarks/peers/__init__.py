"""What people use today, at the same shapes: PyTorch's own example, and Keras where it is installed."""
