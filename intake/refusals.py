"""A refusal as an answer of the web framework.

Why here: the rooms that answer through it must refuse in one form.
Must not: say more than the problem does.
"""

from __future__ import annotations

from starlette.responses import Response

from intake.problems import MEDIA_TYPE, Problem, encode_problem


def problem_response(problem: Problem) -> Response:
    """``application/problem+json``, never to be cached."""
    headers = {"cache-control": "no-store"} | dict(problem.headers)
    return Response(
        encode_problem(problem), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE
    )
