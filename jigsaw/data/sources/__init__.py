"""Sources: lists the photos, videos and RGB-D pairs of a folder, list, tar or table, and opens one of them."""
