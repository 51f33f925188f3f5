"""How many examples hypothesis tries: a tenth in the ordinary profile, all in `thorough`.

`pytest --hypothesis-profile=thorough` tries them all.
"""

from hypothesis import settings

IS_THOROUGH = settings.get_current_profile_name() == "thorough"
_PART = 10
_FEWEST = 30


def examples(count: int) -> settings:
    """Settings with as many examples as the profile has for a test that is worth `count`."""
    return settings(max_examples=scaled(count))


def scaled(count: int) -> int:
    """A number of examples as the profile has it."""
    return count if IS_THOROUGH else max(count // _PART, min(count, _FEWEST))
