"""What is seen of the gateway from outside: log lines and metrics."""
