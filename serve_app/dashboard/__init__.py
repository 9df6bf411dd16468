"""The dashboard: a page that shows the pool, explains every decision, and lets admins change things."""
