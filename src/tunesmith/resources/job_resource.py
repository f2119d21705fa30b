"""The base of both fine-tuning APIs' resources: jobs bound to their resource, and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tunesmith.core.flow import Flow
from tunesmith.core.modes import ModeT_co
from tunesmith.core.options import RequestOptions
from tunesmith.core.paging import PageCursor, PageData, PageFlow
from tunesmith.errors import TunesmithError
from tunesmith.types.fine_tuning import FineTuningJob
from tunesmith.types.legacy_fine_tunes import FineTune

from .base import APIResource
from .files import Files, read_content

if TYPE_CHECKING:
    from tunesmith.results import Results

__all__ = ["JobResource"]

JobT = TypeVar("JobT", bound=FineTune | FineTuningJob)


class JobResource(APIResource[ModeT_co]):
    """A resource whose jobs have methods of their own: `job.refresh()`, `job.wait()`, …."""

    def _job(
        self,
        method: str,
        path: str,
        model: type[JobT],
        params: Mapping[str, Any],
        *,
        fields: Mapping[str, Any] | None = None,
    ) -> Flow[JobT]:
        """Send one request whose response is a job, and bind the job to this resource."""
        job = yield from self._request(method, path, model, params, fields=fields)
        job._bind(self)
        return job

    def _jobs(
        self, path: str, model: type[JobT], params: Mapping[str, Any], *, paged: bool = True
    ) -> PageFlow[JobT]:
        """Return the flow of one page of jobs."""
        pages = self._pages(path, model, params, paged=paged)

        def page(cursor: PageCursor) -> Flow[PageData[JobT]]:
            data = yield from pages(cursor)
            for job in data.data:
                job._bind(self)
            return data

        return page

    def _results(
        self, job: FineTune | FineTuningJob, files: Sequence[str], options: RequestOptions
    ) -> Flow[Results]:
        """Read the job's result file.

        Raises:
            TunesmithError: It has none.
        """
        from tunesmith.results import parse

        if not files:
            later = "" if job.is_terminal else " It is written when the job has succeeded."
            raise TunesmithError(f"Job {job.id} is {job.status} and has no result file.{later}")
        content = yield from read_content(Files(self._executor), files[0], options)
        return parse(content.content)
