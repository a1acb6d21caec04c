"""What every resource of the registry stands on: database, leases, states, outbox, pages, filters."""
