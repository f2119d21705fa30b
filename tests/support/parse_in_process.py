"""A function for a process of a pool, which imports it by this module's name."""

from pydantic import BaseModel

from tunesmith import Client
from tunesmith.types import ParsedChatCompletion


class Review(BaseModel):
    text: str
    stars: int


def parse(url: str) -> ParsedChatCompletion[Review]:
    with Client("k", base_url=url) as client:
        return client.chat.completions.parse(model="m", messages=[], response_format=Review)
