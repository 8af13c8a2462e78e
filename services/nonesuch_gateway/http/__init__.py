"""What HTTP asks of any server: problems, bodies, conditions, middleware, and stopping in order."""
