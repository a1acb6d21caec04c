"""JobService and what is done for jobs of every kind: the table of kinds, expired leases, dead-lettered commands."""
