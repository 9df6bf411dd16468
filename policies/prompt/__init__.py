"""A prompt as numbers: hashed n-grams, hints, style. No text is kept."""
