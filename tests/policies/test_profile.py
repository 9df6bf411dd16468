"""Profiles and what is said about one that does not exist."""

from policies.profile import Profile, UnknownProfileError


def test_a_profile_without_settings_asks_for_nothing() -> None:
    profile = Profile()
    assert (profile.target_s, profile.quality_floor, profile.budget_usd) == (0.0, 0.0, 0.0)
    assert profile.allowed is None
    assert not profile.sticky


def test_an_unknown_profile_names_those_there_are() -> None:
    error = UnknownProfileError("suport", ("content", "support"))
    assert str(error) == "Profile 'suport' is not configured. Configured: 'content', 'support'."
    assert "Configured: none." in str(UnknownProfileError("x", ()))
