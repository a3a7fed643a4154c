"""The page on which customers ask us something, and the same as JSON.

Why here: both are judged by form.py and kept by desk.py.
Must not: show, log or send anything of an enquiry, or let another site write one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from intake.asgi import read_json, single_headers
from intake.enquiries.desk import EnquiryDesk
from intake.enquiries.form import LABELS, QUESTION_MAXIMUM, EnquiryTaken, Question, read_question
from intake.page.changes import form_route, is_form, is_from_here, read_form
from intake.page.pages import Pages
from intake.problems import NOT_JSON, Fault, Problem, faulty_letter, too_many
from intake.refusals import problem_response
from intake.texts import is_harmful

_ENQUIRIES = "/enquiries"
_WAIT_SECONDS = 3600


class EnquiryPages:
    """``desk`` is the one whose file the commands use too; ``kept_days`` after an enquiry was resolved it is erased."""

    def __init__(self, *, pages: Pages, desk: EnquiryDesk, kept_days: int, now: Callable[[], int]) -> None:
        self._pages = pages
        self._desk = desk
        self._kept_days = kept_days
        self._now = now

    def routes(self) -> list[Route]:
        """The address of this room."""
        return [form_route(_ENQUIRIES, show=self._show, take=self._take)]

    async def _show(self, request: Request) -> Response:
        return self._page(request, {}, ())

    async def _take(self, request: Request) -> Response:
        if is_form(request):
            return await self._take_form(request)
        document = await read_json(single_headers(request.scope), request.receive)
        if isinstance(document, Problem):
            return problem_response(document)
        if not isinstance(document, dict):
            return problem_response(NOT_JSON)
        question = read_question(document)
        if not isinstance(question, Question):
            return problem_response(faulty_letter(question))
        number = await run_in_threadpool(self._desk.receive, question, now=self._now())
        if number is None:
            return problem_response(too_many(_WAIT_SECONDS))
        return Response(
            msgspec.json.encode(EnquiryTaken(enquiry=number)),
            status_code=HTTPStatus.ACCEPTED,
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    async def _take_form(self, request: Request) -> Response:
        if not is_from_here(request):
            return self._pages.refusal(
                HTTPStatus.FORBIDDEN, "That came from another site, so nothing was kept."
            )
        form = await read_form(request)
        if form is None:
            return self._pages.refusal(
                HTTPStatus.BAD_REQUEST, "That was not one of our forms, or it was too long. Nothing was kept."
            )
        question = read_question(form)
        if not isinstance(question, Question):
            return self._page(request, form, question)
        number = await run_in_threadpool(self._desk.receive, question, now=self._now())
        if number is None:
            return self._pages.refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "There are too many questions at the moment. Nothing was kept. Please try again in an hour.",
            )
        return self._pages.show(
            request,
            "note.html",
            _ENQUIRIES,
            heading="We have your question",
            text=f"Its number is {number}. We answer by email. {self._kept_days} days after it is resolved, your "
            "question and our answer are erased.",
        )

    def _page(self, request: Request, form: Mapping[str, str], faults: Sequence[Fault]) -> Response:
        by_name = {fault.pointer.removeprefix("/"): fault.detail for fault in faults}
        # What was typed is shown again, but for what could harm a reader of the page.
        shown = {
            name: text
            for name, text in form.items()
            if not any(is_harmful(line.replace("\t", " ")) for line in text.splitlines())
        }
        return self._pages.show(
            request,
            "enquiries.html",
            _ENQUIRIES,
            status=HTTPStatus.UNPROCESSABLE_ENTITY if faults else HTTPStatus.OK,
            labels=LABELS,
            given=shown,
            faults=by_name,
            kept_days=self._kept_days,
            text_most=QUESTION_MAXIMUM,
        )
