"""The pool's own models and suites: generated data, training, evaluation and model cards."""
