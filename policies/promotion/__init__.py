"""What a candidate must show before and while it meets users: gates, canary, alarms, off-policy estimates."""
