"""What stands between this machine and a run: `checks`, and what a `plan` takes of memory (`sizing`, `maxmemory`)."""
