"""Where a run's images come from: the service, a folder of real ones, or both."""
