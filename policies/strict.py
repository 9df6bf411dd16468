"""The base of every configuration type: an unknown key fails at load and names the nearest right one."""

import difflib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator


class StrictModel(BaseModel):
    """A frozen pydantic model without room for typing errors.

    Raises:
        pydantic.ValidationError: for an unknown key: `Unknown key 'modle' in X; did you mean 'model'?`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = cls._keys()
            complaints = [_complaint(str(key), cls.__name__, known) for key in data if key not in known]
            if complaints:
                raise ValueError(" ".join(complaints))
        return data

    @classmethod
    def _keys(cls) -> list[str]:
        return [key for name, field in cls.model_fields.items() for key in (name, field.alias) if key]

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return type(self).model_validate({**self.model_dump(by_alias=True), **changes})


def _complaint(key: str, owner: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(sorted(known))}."
    return f"Unknown key '{key}' in {owner}; {hint}"
