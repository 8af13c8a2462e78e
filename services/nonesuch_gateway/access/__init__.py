"""Who may do what, and how much of it: tokens, their scopes and limits, a request that comes again, secret files."""
