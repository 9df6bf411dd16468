"""Budget, quality floor and latency target as dual variables, and the pacer of the budget."""
