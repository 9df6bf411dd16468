"""Profiles and what is said about one that does not exist."""

import pytest

from policies.profile import Profile, UnknownProfileError, auto_name, is_auto, selected_profile


def test_a_profile_without_settings_asks_for_nothing() -> None:
    profile = Profile()
    assert (profile.target_s, profile.quality_floor, profile.budget_usd) == (0.0, 0.0, 0.0)
    assert profile.allowed is None
    assert not profile.sticky


def test_an_unknown_profile_names_those_there_are() -> None:
    error = UnknownProfileError("suport", ("content", "support"))
    assert str(error) == "Profile 'suport' is not configured. Configured: 'content', 'support'."
    assert "Configured: none." in str(UnknownProfileError("x", ()))


@pytest.mark.parametrize(
    ("requested", "answer"),
    [("auto", True), ("auto:support", True), ("auto:", True), ("automat", False), ("au", False), ("", False)],
)
def test_only_auto_and_its_profiles_leave_the_choice_to_the_policy(requested: str, answer: bool) -> None:
    assert is_auto(requested) is answer


def test_a_profile_and_the_model_name_that_selects_it_belong_together() -> None:
    assert [selected_profile(auto_name(name)) for name in ("", "support")] == ["", "support"]
    assert auto_name("") == "auto"
