"""The ledger of invalidation records, and the release directory."""
