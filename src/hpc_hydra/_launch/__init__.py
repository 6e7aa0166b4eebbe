"""What submits runs and waits for them."""
