"""What all tests share: property tests draw the same cases every time, and real data can be demanded."""

import hypothesis
import pytest

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-realdata", action="store_true", help="fail where a `realdata` test would be skipped")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    demanded = item.config.getoption("--require-realdata") and item.get_closest_marker("realdata")
    if report.skipped and demanded and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but --require-realdata was given: {report.longrepr[2]}"
    return report
