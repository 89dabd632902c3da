"""VersionedPusher: makes a blessed model live, as an immutable version with its evidence."""
