"""`/api/v1/dead-letters`: in groups."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.console.dead_letters.schemas import GroupsAsked, GroupsShown
from app.console.dependencies import By, Given
from app.console.problems import REFUSES

router = APIRouter(prefix="/dead-letters", tags=["dead letters"])


@router.get("", responses=REFUSES[404])
async def group_dead_letters(
    asked: Annotated[GroupsAsked, Query()], by: By, given: Given
) -> GroupsShown:
    """Dead letters that nobody has acknowledged, by feed, status and kind of reason."""
    return await given.dead_letters.groups(by, asked)
