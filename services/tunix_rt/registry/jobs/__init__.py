"""What is done for jobs of every kind: expired leases, requeueing, dead commands."""
