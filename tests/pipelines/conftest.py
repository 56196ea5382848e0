"""Adapters on disk, as a user has them; contracts, and the documentation's table of who keeps them."""

import shutil
from functools import cache
from pathlib import Path

import pipeline_table
import pytest

import tiny_pipeline

_cells: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="session")
def adapters_of(tmp_path_factory):
    """Folders of two adapters for a family's tiny UNet, "person" and "pet", by mechanism and family."""
    folder = tmp_path_factory.mktemp("adapters")

    @cache
    def save(mechanism, family="sdxl"):
        unet = tiny_pipeline.FAMILIES[family]()["unet"]
        made = {
            word: tiny_pipeline.adapter(unet, seed, subject_token=word, mechanism=mechanism)
            for seed, word in enumerate(("person", "pet"), start=1)
        }
        return {word: tiny_pipeline.save_adapter(folder / family / mechanism / word, one) for word, one in made.items()}

    return save


@pytest.fixture(scope="session")
def adapters(adapters_of):
    """Folders of two adapters for SDXL, "person" and "pet"."""
    return adapters_of("nested")


@pytest.fixture
def folder(adapters, tmp_path: Path) -> Path:
    """A published adapter, to be damaged."""
    return shutil.copytree(adapters["person"], tmp_path / "adapter")


@cache
def _loaded(case, folder):
    pipeline = case.build()
    pipeline.load_nested_adapter(folder)
    return pipeline


@pytest.fixture
def nested(case, adapters):
    """The case's pipeline with the adapter "person" at scale 1; one for all calls that need nothing else."""
    pipeline = _loaded(case, adapters["person"])
    yield pipeline
    pipeline.set_nested_adapter_scale(1.0)


def pytest_addoption(parser):
    parser.addoption(
        "--write-pipeline-table", action="store_true", help="write what `pytest tests/pipelines` found into the docs"
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "contract(title, needs=argument): something that every pipeline must keep to")


def pytest_collection_modifyitems(items):
    for item in items:
        contract = pipeline_table.contract_of(getattr(item, "function", None))
        if contract is None:
            continue
        case = item.callspec.params["case"]
        item.user_properties.append(("contract", (str(case), contract.title)))
        reason = contract.why_not(case)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_logreport(report):
    cell = dict(report.user_properties).get("contract")
    if cell is None:
        return
    cell = tuple(cell)
    if report.failed:
        _cells[cell] = pipeline_table.BROKEN
    elif report.skipped:
        _cells.setdefault(cell, report.longrepr[2].removeprefix("Skipped: "))
    elif report.when == "call":
        _cells.setdefault(cell, pipeline_table.KEPT)


def pytest_sessionfinish(session):
    if session.config.getoption("--write-pipeline-table", default=False) and not hasattr(session.config, "workerinput"):
        missing = pipeline_table.all_kept().keys() - _cells.keys()
        if missing:
            raise pytest.UsageError(f"The table needs all of tests/pipelines; {len(missing)} of its cells did not run.")
        pipeline_table.write(_cells)
