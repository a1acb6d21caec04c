"""OpenID Connect: what an issuer publishes, and how a person at a terminal signs in."""
