"""The stored puzzle set: settings, manifest, Parquet parts, media columns, ids and hashes."""
