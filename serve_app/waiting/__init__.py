"""Where requests wait for a model whose slots are taken: fair between keys, by priority, within deadlines."""
