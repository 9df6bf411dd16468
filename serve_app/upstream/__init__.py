"""From a dispatched request to the bytes of a replica: tries, deadlines, relay, ejection."""
