"""From a plan of pictures to files, a sheet or a stream: names first, then models, then one picture after another."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genctl.asked import Job, size_of
from genctl.cli import say, shared
from genctl.cli.jobs import Documents, Plan
from genctl.cli.progress import Display
from genctl.errors import UsageError
from genctl.families import registry
from genctl.media import names
from genctl.media.sheet import CELLS, MOST_STRIP
from genctl.sizes import Size

if TYPE_CHECKING:
    from PIL.Image import Image

    from genctl.families.base import Family


@dataclass(frozen=True)
class Output:
    """Where pictures go, and what is said of them."""

    path: str | None = None
    force: bool = False
    skip_existing: bool = False
    grid: bool = False
    as_json: bool = False
    metadata: bool = True
    quiet: bool = False


class Session:
    """What a sample command keeps while it runs: loaded models, the count of pictures, what was said already."""

    def __init__(
        self, out: Output, batch: int, device: str, data: Path | None, preview: bool, progress: str,
        documents: Documents, trust: bool = False,
    ) -> None:  # fmt: skip
        self.out, self.batch, self.device, self.data, self.preview = out, batch, device, data, preview
        self.trust = trust
        self.documents, self.display = documents, Display(progress, out.quiet)
        self.families: dict[str, Family] = {}
        self.said: set[str] = set()
        self.count = 0  # pictures of earlier plans
        self.announced = ""  # to be said once a model is there
        self.stopping = False
        self.written: set[Path] = set()
        self.clips, self.stream = False, names.stream_of(out.path)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.display.close()

    # before any model is loaded --------------------------------------------------------------------------------------
    def prepare(self, plan: Plan) -> None:
        """Check the plan and find its names. Raises UsageError for what cannot be drawn or written."""
        from genctl.media import sheet
        from genctl.media.write import refuse_terminal

        jobs = plan.jobs(self.documents)
        self._check_data({job.model for job in jobs})
        sizes = self._sizes(jobs)
        results = self._results(jobs, sizes, plan.swept or [""] * len(jobs))
        out, clips = self.out, {is_clips(job) for job in jobs}
        self.stream = names.stream_of(out.path)
        if len(clips) > 1:
            raise UsageError("models of pictures and of clips in one call; draw them apart")
        self.clips = True in clips
        if self.stream not in (None, "frames") and (not self.clips or self.count + len(jobs) > 1 or out.grid):
            raise UsageError(f"-o {out.path}: for one clip of a model that draws such; -o - streams PNG after PNG")
        if self.stream is not None:
            refuse_terminal()
            paths: list[Path] = []
        else:
            wanted = results[:1] if out.grid else results
            paths = names.plan(out.path, wanted, out.force, "a folder or --grid", out.skip_existing, True)
        if out.grid:
            cell = (max(size.width for size in sizes), max(size.height for size in sizes))
            if self.clips:  # a strip each, one below the other
                cell, plan = (MOST_STRIP * cell[0], cell[1]), replace(plan, layout=sheet.below(plan.layout, len(jobs)))
            sheet.refuse(names.format_of(paths[0]) if paths else "png", len(jobs), plan.layout, cell)
        again = next((path for path in paths if path in self.written), None)
        if again is not None and not out.skip_existing:
            raise UsageError(f"-o {again}: an earlier line wrote it; put {{i}} in the name")
        self.plan, self.jobs, self.paths = plan, jobs, paths
        self._skip()

    @staticmethod
    def _sizes(jobs: list[Job]) -> list[Size]:
        """What each job draws; a picture to be changed is read here, before anything is loaded. Raises InputError."""
        shapes: dict[int, tuple[int, int] | None] = {}
        for asked in {id(job.asked): job.asked for job in jobs}.values():
            shapes[id(asked)] = None
            if asked.image is not None:
                from genctl.drawing import read_start

                start = read_start(asked)
                shapes[id(asked)] = start[0].size if start else None
        found: dict[tuple[int, int, int], Size] = {}
        for job in jobs:
            key = (id(job.asked), id(job.options), id(job.document))
            if key not in found:
                found[key] = size_of(job, shapes[id(job.asked)])
        return [found[id(job.asked), id(job.options), id(job.document)] for job in jobs]

    def _results(self, jobs: list[Job], sizes: list[Size], swept: list[str]) -> list[names.Result]:
        """What file names can be made of. Jobs that share their settings share their fields."""
        fields: dict[tuple[int, int], dict[str, Any]] = {}
        results = []
        for index, (job, size, text) in enumerate(zip(jobs, sizes, swept, strict=True), self.count):
            key = (id(job.asked), id(job.options))
            shown = fields[key] if key in fields else fields.setdefault(key, job.fields(size))
            clip = is_clips(job) and not self.out.grid
            results.append(names.Result(index, job.seed, job.asked.condition, job.model, shown, text, clip))
        return results

    def _check_data(self, models: set[str]) -> None:
        untrained = models & set(registry.untrained())
        if bool(untrained) != (self.data is not None) or (untrained and len(models) > 1):
            names_of = ", ".join(registry.untrained())
            raise UsageError(
                f"--model {names_of} and --data FOLDER go together: it draws what a perfect fit of them would"
            )

    def _skip(self) -> None:
        """Leave out what is there already."""
        if not self.out.skip_existing:
            return
        there = [path.exists() for path in self.paths]
        if self.out.grid and any(there):
            self.jobs = []
        for path, exists in zip(self.paths, there, strict=True):
            if exists:
                self._result_line(path, {"skipped": True}) if self.out.as_json else None
        if any(there):
            shared.remark(f"{sum(there)} of {len(there)} exist already, left as they are", self.out.quiet)
        if not self.out.grid:
            kept = [index for index, exists in enumerate(there) if not exists]
            self.jobs, self.paths = [self.jobs[index] for index in kept], [self.paths[index] for index in kept]

    # drawing ---------------------------------------------------------------------------------------------------------
    def family(self, name: str) -> Family:
        if name not in self.families:
            if self.data is not None:
                self.families[name] = shared.load_untrained(name, self.data, self.device, self.out.quiet)
            else:
                self.families[name] = shared.load(name, self.device, self.out.quiet, self.trust)
        if self.announced:
            shared.remark(self.announced, self.out.quiet)
            self.announced = ""
        return self.families[name]

    def draw(self, compare: tuple[Path, dict[str, Any]] | None = None) -> None:
        """Draw the plan and put out each picture as soon as it is done; a sheet at the end."""
        from genctl.drawing import draw
        from genctl.media import sheet
        from genctl.shown import Clip, image_of, made_of

        kept: list[tuple[Image, dict[str, Any]]] = []
        done = 0
        try:
            for name, group in groupby(self.jobs, key=lambda job: job.model):
                together = list(group)
                for event in draw(self.family(name), together, self.batch, self._remark):
                    at = self.count + done
                    if event.document is None:
                        self.display.event("step", event.step, event.steps, picture=self.count + event.index)
                        if self.preview:
                            self.display.preview(image_of(event.guess()), event.step, event.steps)
                        continue
                    if compare:
                        self._differences(compare[0], _own(compare[1], done), event.document)
                    image = made_of(event.guess(), event.document)
                    path = self.paths[done] if self.paths and not self.out.grid else None
                    done += 1
                    if self.out.grid:
                        kept.append((image.sheet() if isinstance(image, Clip) else image, event.document))
                        self.display.event("draw", at + 1, self.count + len(self.jobs))
                    else:
                        said = {} if path is None else {"path": str(path)}
                        self._put(image, path, event.document)
                        self.display.event("draw", at + 1, self.count + len(self.jobs), **said)
                    if self.stopping:
                        raise KeyboardInterrupt
            if kept:
                self._put_sheet(kept, sheet.compose([image for image, _ in kept], self.plan.layout))
        finally:  # a line that failed halfway has written names that the next one must not ask for
            self.count += len(self.plan.cells)

    def _put_sheet(self, kept: list[tuple[Image, dict[str, Any]]], image: Image) -> None:
        from genctl.media import sheet

        documents = [document for _, document in kept]
        document = documents[0] if len(documents) == 1 else sheet.document_of(documents, self.plan.layout)
        self._put(image, self.paths[0] if self.paths else None, document)

    def _put(self, image: Any, path: Path | None, document: dict[str, Any]) -> None:
        made = put_out(image, path, document if self.out.metadata else None, self.out.force, self.stream)
        if made is not None:
            self.written.add(made)
            self._result_line(made, document)

    def _result_line(self, path: Path, facts: dict[str, Any]) -> None:
        shared.result(path, self.out.as_json, facts)

    def _remark(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.display.close()
            shared.remark(f"genctl: {text}", self.out.quiet)

    def _differences(self, path: Path, made: dict[str, Any], document: dict[str, Any]) -> None:
        """Say of what a picture was made that is another thing here, so that it will not be drawn again as it was."""
        for key, what in (("sha256", "the model"), ("image", "--image"), ("mask", "--mask"), ("guide", "--guide")):
            if key in made and made[key] != document.get(key):
                self._remark(f"{what} is not what {path} was made with; the picture will differ")

    # a process that stays --------------------------------------------------------------------------------------------
    def failed(self, number: int, error: Exception) -> None:
        """Say that a line could not be drawn: on stderr, and with --json on stdout as well."""
        say.note(f"genctl: {error}")
        if self.out.as_json:
            say.document({"line": number, "error": str(error)})

    @contextmanager
    def whole_pictures(self) -> Iterator[None]:
        """Ctrl-C within ends after the picture in hand; a second one at once."""

        def stop(number: int, frame: Any) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _own(made: dict[str, Any], index: int) -> dict[str, Any]:
    """What a picture, or the picture at this place of a sheet, said of itself."""
    rows = made.get(CELLS, [])
    return made | rows[index] if index < len(rows) else made


def is_clips(job: Job) -> bool:
    return registry.row(job.document["family"]).clips


def put_out(
    image: Any, path: Path | None, document: dict[str, Any] | None, force: bool, stream: str | None = "frames"
) -> Path | None:
    """One picture, or the frames of a clip, to a file, whose path is returned; or to stdout, as PNG after PNG, or a
    clip in another format."""
    from genctl.media import write

    fps = getattr(image, "fps", None)
    if fps is not None and path is not None:
        form = names.format_of(path, clips=True)
        return named(path, write.write_new(path, write.encode_clip([*image], form, fps, document), force))
    if fps is not None and stream not in (None, "frames"):
        write.write_stdout(write.encode_clip([*image], str(stream), fps, document))
        return None
    if fps is not None:
        for frame in image:
            write.write_stdout(write.encode_picture(frame, "png", document))
        return None
    if path is not None:
        return named(path, write.write_picture(path, image, document, force))
    write.write_stdout(write.encode_picture(image, "png", document))
    return None


def named(wanted: Path, made: Path) -> Path:
    """Where a file is; said where it is not where it was wanted."""
    if made != wanted:
        shared.remark(f"genctl: {wanted} was written by another process meanwhile; this is {made}")
    return made
