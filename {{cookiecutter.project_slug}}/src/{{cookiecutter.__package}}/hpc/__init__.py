"""What a run needs to live on a cluster: signals, tracking, records."""
