"""The sources of a run's images: the service, a folder of real ones, or both."""
