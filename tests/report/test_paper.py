"""The table of the paper's numbers: its coverage, its source, and values that the paper's own text implies."""

from lib.methods.table import ON_TASKS
from lib.report.paper import NUMBERS, paper_points


def test_the_table_names_its_source():
    assert "2412.13243" in NUMBERS.read_text().splitlines()[0]


def test_every_readable_curve_has_the_four_support_sizes():
    for figure, quantity, methods in [
        ("fig1", "in_domain_accuracy", {"baseline", "icl", "pbft", "cd"}),
        ("fig1", "out_of_domain_accuracy", {"baseline", "icl", "pbft", "cd"}),
        ("fig5", "out_of_domain_accuracy", {"cd", "cd_lora", "cd_bitfit"}),
        ("fig6", "peak_memory", {"cd", "cd_lora", "cd_bitfit"}),
        ("fig6", "training_time", {"cd", "cd_lora", "cd_bitfit"}),
    ]:
        points = paper_points(figure, quantity)
        assert set(points.method) == methods <= set(ON_TASKS)
        assert (points.groupby("method").support_size.apply(list).map(lambda sizes: sizes == [1, 4, 8, 12])).all()


def test_figures_that_could_not_be_read_have_no_points():
    assert all(paper_points(figure, "in_domain_accuracy").empty for figure in ("fig2", "fig3", "fig4"))


def test_icl_was_read_as_multiples_of_a_tenth():
    tenths = paper_points("fig1", "in_domain_accuracy").query("method == 'icl'").value * 10
    assert (tenths - tenths.round()).abs().max() < 1e-9
