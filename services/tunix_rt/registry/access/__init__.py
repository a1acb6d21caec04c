"""Who may do what, and who did it: principals, tokens, the audit log."""
