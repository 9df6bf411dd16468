"""What a request costs by its model's prices."""


def cost_usd(
    prompt_tokens: float, output_tokens: float, prompt_usd_per_mtok: float, completion_usd_per_mtok: float
) -> float:
    """Dollars for tokens at prices per million tokens."""
    return (prompt_tokens * prompt_usd_per_mtok + output_tokens * completion_usd_per_mtok) * 1e-6
