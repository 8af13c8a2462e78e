"""Batches as files, written alike by the gateway, by `nonesuch order` and by a client."""
