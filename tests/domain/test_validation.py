"""The sentences about a wrong file hold for settings as they do for plans."""

from __future__ import annotations

import tomllib

import pytest
from pydantic import BaseModel, ValidationError

from domain.validation import describe_problems
from settings import PlatformProfile


class Settings(BaseModel):
    """The part of the settings that holds a union of profiles."""

    platforms: dict[str, PlatformProfile]


@pytest.mark.parametrize(
    ("kind", "wrong", "hint"),
    [("genesys", "client_ident", "did you mean 'client_id'?"), ("cxone", "auth_ur", "did you mean 'auth_url'?")],
)
def test_an_unknown_key_of_a_profile_is_held_against_the_keys_of_its_kind(kind: str, wrong: str, hint: str) -> None:
    text = f'[platforms.eu]\nkind = "{kind}"\nbase_url = "https://api.example.com"\n{wrong} = "x"\n'

    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(tomllib.loads(text))
    sentences = describe_problems(refused.value, Settings, text)
    assert [sentence for sentence in sentences if hint in sentence]
