"""What answers from the records cost."""
