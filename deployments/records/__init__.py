"""What processes tell each other: the durable records, reports and the snapshot of the table."""
