"""What a job executes."""
