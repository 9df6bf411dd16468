"""A price by the GPU-hour becomes a price by token that pays for the replica at its target utilisation."""

import pytest

from deployments.model.config import ModelConfig
from deployments.model.settings import ModelSettings, Price

BY_HOUR = {"usd_per_gpu_hour": 3.6, "prompt_tokens_per_s": 10_000, "output_tokens_per_s": 1_000}


def test_at_its_utilisation_the_tokens_pay_for_the_gpus():
    price = Price.model_validate({**BY_HOUR, "utilisation": 0.25})
    _, output_usd = price.usd_per_mtok(2.0)
    assert output_usd * 1_000 * 0.25 * 3_600 / 1e6 == pytest.approx(price.usd_per_hour(2.0)) == 7.2


def test_the_card_has_both_prices():
    config = ModelConfig.model_validate({"id": "m", "engine": "simulated"})
    card = config.card(ModelSettings.model_validate({"price": {**BY_HOUR, "utilisation": 1.0}}))
    assert card.usd_per_hour == 3.6
    assert (card.prompt_usd_per_mtok, card.completion_usd_per_mtok) == pytest.approx((0.1, 1.0))
    assert config.card(ModelSettings()).usd_per_hour == 0.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({**BY_HOUR, "completion_usd_per_mtok": 1.0}, "either"),
        ({"usd_per_gpu_hour": 1.0, "prompt_tokens_per_s": 1.0}, "output_tokens_per_s"),
        ({**BY_HOUR, "utilisation": 0.0}, "greater than 0"),
    ],
)
def test_half_a_price_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Price.model_validate(wrong)
