"""The rule table: what a field may hold, and its default. Every service, the client and the CLI read it here."""
