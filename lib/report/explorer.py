"""Widgets by which one example can be changed, above what the teacher and each student then answer to it."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import ipywidgets as widgets
from IPython.display import HTML, DisplayHandle, display
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from lib.errors import StudyError
from lib.methods.examples import support_of
from lib.methods.records import Run
from lib.methods.table import METHODS
from lib.models.loading import quiet
from lib.report import one_example
from lib.report.figures import house_style
from lib.report.one_example import STEP_BY_STEP, Answerer, Asked, Models, items_and_others
from lib.runs.execution import BATCH, as_paragraphs
from lib.runs.profile import Profile
from lib.tasks.patterns import fill, placeholders
from lib.tasks.task import Query, Task

EXAMPLES_AT_FIRST = 4  # or the nearest number that the profile has
UNTUNED, TEACHER = "baseline", "teacher_icl"
BETWEEN_FIELDS = "\0"  # in no text
ON_RELEASE = {"continuous_update": False}
WIDE = {"width": "50em"}
SCROLLED = {"max_height": "14em", "overflow": "auto", "display": "block", "border": "1px solid #ccc"}


class Explorer:
    """Widgets for one example of a profile's task, and what is shown of it.

    Each `show_...` puts its widgets above what they change, which is an ordinary output of the cell and stays where
    there is no kernel. The same widget may stand above several of them. In batch, where nobody would move them, no
    widgets are shown.
    """

    def __init__(self, profile: Profile, methods: Sequence[str]) -> None:
        """Load the models and train the first students; of the methods those that the profile has answer."""
        quiet()
        house_style()
        self.profile, self.models = profile, Models(profile)
        self.methods = [name for name in methods if name in profile.methods]
        self._outputs: dict[Callable[[], object], DisplayHandle] = {}
        self._redraws = True
        self._choose_example(profile.task(profile.seeds[0]))
        self._choose_support()
        self._choose_loss()
        self._fill_example()
        self._fill_labels()
        self._train()

    # The widgets

    def _choose_example(self, task: Task) -> None:
        datasets = [(dataset.name, domain) for domain, dataset in task.domains.items()]
        self.domain = widgets.Dropdown(description="data", options=datasets)
        last = len(items_and_others(task, self.domain.value)[0]) - 1
        self.item = widgets.IntSlider(description="item", value=1, max=last, **ON_RELEASE)
        names = placeholders(task.pattern)
        self.fields = {name: widgets.Text(description=name, layout=WIDE, **ON_RELEASE) for name in names}
        classes = [(name, place) for place, name in enumerate(self.profile.classes)]
        self.gold = widgets.Dropdown(description="right label", options=classes)
        _observe(self._on_item, self.domain, self.item)
        _observe(self._redraw, *self.fields.values(), self.gold)

    def _choose_support(self) -> None:
        sizes = sorted(filter(None, self.profile.support_sizes))
        nearest = min(sizes, key=lambda size: abs(size - EXAMPLES_AT_FIRST))
        self.size = widgets.SelectionSlider(description="n", options=sizes, value=nearest, **ON_RELEASE)
        self.seed = widgets.SelectionSlider(description="seed", options=self.profile.seeds, **ON_RELEASE)
        self.labels = widgets.VBox(layout=SCROLLED)
        _observe(self._on_support, self.size, self.seed)

    def _choose_loss(self) -> None:
        temperature, weight = self.profile.temperature, self.profile.kl_weight
        self.temperature = widgets.FloatSlider(description="T", value=temperature, min=0.25, max=8, step=0.25)
        self.kl_weight = widgets.FloatSlider(description="λ", value=weight, max=1, step=0.05)
        students = [name for name in self.methods if name == UNTUNED or METHODS[name].tuning]
        options = [*((METHODS[name].label, name) for name in students), (STEP_BY_STEP, STEP_BY_STEP)]
        self.first = widgets.Dropdown(description="student", options=options)
        self.second = widgets.Dropdown(description="and", options=options, value=(students or [STEP_BY_STEP])[-1])
        _observe(lambda _: self._redraw(only=self.losses), self.temperature, self.kl_weight, self.first, self.second)
        names = ("one step", "ten steps", "reset")
        self.one_step, self.ten_steps, self.reset = (widgets.Button(description=name) for name in names)
        self.one_step.on_click(lambda _: self._on_steps(1))
        self.ten_steps.on_click(lambda _: self._on_steps(10))
        self.reset.on_click(lambda _: self._on_reset())

    # What happens when one changes

    def _on_item(self, _: object) -> None:
        with self._together():
            self._fill_example()

    def _on_support(self, _: object) -> None:
        """Answer at once by those who are there; students that have to be trained follow."""
        self._training = None
        with self._together():
            self._fill_labels()
        self._train()
        self._redraw()

    def _on_steps(self, steps: int) -> None:
        self._training.take(steps)
        self._redraw()

    def _on_reset(self) -> None:
        self._training = self.models.step_by_step(self._distilling())
        self._redraw()

    def _train(self) -> None:
        for name in self.methods:
            self.models.train(self._run(name))
        self._training = self.models.step_by_step(self._distilling())

    def _fill_example(self) -> None:
        """Put an item into the fields: it is read under a pattern that is nothing but the fields."""
        pattern = BETWEEN_FIELDS.join(f"{{{name}}}" for name in self.fields)
        item = items_and_others(replace(self.task, pattern=pattern), self.domain.value)[0][self.item.value]
        for one, text in zip(self.fields.values(), item.text.split(BETWEEN_FIELDS), strict=True):
            one.value = text
        self.gold.value = item.gold

    def _fill_labels(self) -> None:
        words = zip(self.profile.classes, self.task.label_words, strict=True)
        options = [(f"{name}: {word}", place) for place, (name, word) in enumerate(words)]
        rows = []
        for one in self._support():
            label = widgets.Dropdown(options=options, value=one.gold, layout={"width": "16em"})
            _observe(self._redraw, label)
            rows.append(widgets.HBox([label, widgets.Label(one.text, tooltip=one.text)]))
        self.labels.children = rows

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Several widgets change, and what they change is drawn once."""
        self._redraws = False
        try:
            yield
        finally:
            self._redraws = True
        self._redraw()

    # What they say

    @property
    def task(self) -> Task:
        """The task, whose label words may be the seed's own."""
        return self.profile.task(self.seed.value)

    @property
    def asked(self) -> Asked:
        """The example in the fields, and the demonstrations with the labels that were chosen."""
        text = fill(self.task.pattern, {name: one.value for name, one in self.fields.items()})
        labels = [row.children[0].value for row in self.labels.children]
        return Asked(
            query=Query(text, self.task.label_words, self.gold.value),
            demonstrations=tuple(one._replace(gold=gold) for one, gold in zip(self._support(), labels, strict=True)),
            others=items_and_others(self.task, self.domain.value)[1],
            classes=self.profile.classes,
        )

    def _run(self, method: str, **settings: float) -> Run:
        return self.models.run(method, self.size.value, self.seed.value, **settings)

    def _distilling(self) -> Run:
        """A distillation with the loss that the sliders say."""
        return self._run("cd", temperature=self.temperature.value, kl_weight=self.kl_weight.value)

    def _support(self) -> list[Query]:
        return support_of(self._run("cd"))

    def _those(self, names: Sequence[str]) -> list[Answerer]:
        """Those of them who can answer now."""
        return [one for one in map(self._answerer, names) if one]

    def _answerer(self, name: str) -> Answerer | None:
        if name == STEP_BY_STEP:
            return self._training and self.models.so_far(self._training)
        return self.models.of(self._run(name))

    # What is shown

    def show_prompts(self) -> None:
        """The example, to be chosen or typed, and the two prompts."""
        self._show(self.prompts, self.domain, self.item, *self.fields.values(), self.gold, self.size, self.seed)

    def show_answers(self) -> None:
        """The demonstrations, whose labels can be changed, and what each method answers."""
        self._show(self.answers, self.item, self.size, self.seed, self.labels)

    def show_losses(self) -> None:
        """Two students, and the loss of each on the example."""
        self._show(self.losses, self.item, self.first, self.second, self.temperature, self.kl_weight)

    def show_distillation(self, steps: int) -> None:
        """A distillation to be taken step by step, after the first `steps`."""
        self._training.take(steps)
        buttons = widgets.HBox([self.one_step, self.ten_steps, self.reset])
        self._show(self.distillation, self.temperature, self.kl_weight, buttons)

    def _show(self, draw: Callable[[], object], *controls: widgets.Widget) -> None:
        if BATCH not in os.environ:
            display(widgets.VBox(controls))
        self._outputs[draw] = display(_drawn(draw), display_id=True)

    def _redraw(self, *_: object, only: Callable[[], object] | None = None) -> None:
        for draw, output in self._outputs.items():
            if self._redraws and only in (None, draw):
                output.update(_drawn(draw))

    def prompts(self) -> HTML:
        """What the teacher reads, and what the student reads."""
        return HTML(one_example.prompts(self.asked))

    def answers(self) -> Styler:
        """What each method answers; dots for students that are trained now."""
        table = one_example.answers(self._those(self.methods), self.asked)
        words = dict(zip(self.profile.classes, self.task.label_words, strict=True))
        table = table.reindex([METHODS[name].label for name in self.methods])
        changed = sum(a != b for a, b in zip(self._support(), self.asked.demonstrations, strict=True))
        caption = f"Probabilities of the label words. {self._where()}, {changed} of {self.size.value} labels changed."
        named = table.rename(columns=lambda name: f"{name}: {words[name]}" if name in words else name)
        return one_example.with_bars(named, named.columns, caption, missing="…")

    def losses(self) -> Styler:
        """Two students and their losses beside the teacher."""
        (teacher,), asked, weight = self._those([TEACHER]), self.asked, self.kl_weight.value
        students = self._those(dict.fromkeys((self.first.value, self.second.value)))
        table = one_example.losses(teacher, students, asked, self._distilling())
        formula = f"loss = {weight:.2f} · T²·KL + {1 - weight:.2f} · CE, in nats"
        caption = f"P({asked.right}), and {formula}. {self._where()}."
        return one_example.with_bars(table, table.columns[:3], caption, missing="–")

    def distillation(self) -> Figure | HTML:
        """The steps taken, and how the student now answers, between the teacher and the untuned student."""
        if self._training is None:
            return HTML("<p>The students are trained now.</p>")
        return one_example.distillation_figure(
            self._training, self._those([TEACHER, UNTUNED, STEP_BY_STEP]), self.asked
        )

    def _where(self) -> str:
        item = items_and_others(self.task, self.domain.value)[0][self.item.value]
        name = f"Item {self.item.value} of {self.task.domains[self.domain.value].name}"
        what = name if item.text == self.asked.query.text else "A text of your own"
        return f"{what}, n = {self.size.value}, seed {self.seed.value}"


def _observe(do: Callable[[object], None], *changing: widgets.Widget) -> None:
    for one in changing:
        one.observe(do, "value")


def _drawn(draw: Callable[[], object]) -> object:
    """What is shown, or why it cannot be: a text may be empty, or too long."""
    try:
        return draw()
    except StudyError as error:
        return HTML(as_paragraphs([str(error)]))
