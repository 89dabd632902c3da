"""CacheWarmer: answers computed before traffic asks for them."""
