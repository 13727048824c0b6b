"""What people use today, at the same shapes: PyTorch's own example; where installed, Keras and Hugging Face."""
