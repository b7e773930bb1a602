"""The on-demand-fork paper: its figures, which are printed beside ours, and the summary of the comparison.

K. Zhao, S. Gong, P. Fonseca, "On-Demand-Fork: A Microsecond Fork for Memory-Intensive and Latency-Sensitive
Applications", EuroSys 2021.  The paper measured on an EPYC 7302P with Linux 5.6.19.  Sizes are the paper's, in GB.
"""

from collections.abc import Sequence

from bench.reporting.report import FIGURE_COLUMNS, Report

SOURCE = "the paper (EuroSys 2021): EPYC 7302P, Linux 5.6.19"
FORK_US = {"fork": {1: 6540.0, 50: 253_940.0}, "on-demand-fork": {1: 100.0, 50: 940.0}}
FORK_RATIO = {1: 65.0, 50: 270.0}  # fork over on-demand-fork
FAULT_NS = {"fork": 2300.0, "fork, huge pages": 198_400.0, "on-demand-fork": 12_200.0}  # one byte in the middle of 1 GB
FAULT_RATIO = 12_200 / 2300
# Executions a second: TriforceAFL's clones of a virtual machine of 188 MB, and AFL on SQLite with 1 GB.
CLONES = {"fork": 91.0, "on-demand-fork": 145.0}
FUZZED = {"fork": 63.0, "on-demand-fork": 206.0}
# On-demand-fork over fork, 50 GB touched in sequence: at 0 %, and at 100 % all read and all written.
WHOLE_RATIO = {"untouched": 0.01, "read": 0.92, "written": 0.96}


def summary(reports: Sequence[Report]) -> Report:
    """One report with all figures that have a bar."""
    report = Report(
        "paper",
        "What became of the paper's figures?",
        ["the figures of each part, with the bars they are held to; " + SOURCE],
        {"parts": [part.name for part in reports]},
        load_before=reports[0].load_before if reports else 0.0,
    )
    table = report.table("The paper's figures and ours", "part", *FIGURE_COLUMNS)
    for part in reports:
        for figure in part.figures:
            table.add(part.name, *figure.cells)
    return report
