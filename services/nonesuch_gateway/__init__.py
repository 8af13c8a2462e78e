"""The REST gateway: orders in over HTTP, Arrow streams out. It talks to Redis only and keeps nothing."""
