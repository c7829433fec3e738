"""Options and the closing report of the suite."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

notes: list[str] = []  # what the tests want to have said at the end, skipped cells above all


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write down how long each notebook took, in tests/seconds.txt")


def pytest_terminal_summary(terminalreporter):
    if notes:
        terminalreporter.section("notebooks")
        for line in notes: terminalreporter.write_line(line)
