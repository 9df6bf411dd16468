"""One replica of one LLM: its configuration, engine, HTTP server, load and reports to the table."""
