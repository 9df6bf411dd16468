"""The performance table: live rows, statistics, decision log and artifacts, in one Ray actor."""
