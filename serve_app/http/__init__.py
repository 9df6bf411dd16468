"""HTTP without OpenAI: the guard, requests, errors."""
