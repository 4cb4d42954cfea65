"""Records, sources, ingest, splits, contracts, shards and versions."""
