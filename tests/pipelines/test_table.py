"""The documentation's table of pipelines is what the tests found."""

import numpy as np
import pipeline_table
import pytest
from cases import CASES, GUESS_FAILS, GUESS_IGNORED

from diffusers_nested.pipelines.refused import REFUSED


def test_the_page_has_every_pipeline_and_contract():
    fresh = pipeline_table.render(pipeline_table.all_kept())
    assert pipeline_table.read() == fresh, (
        "docs/pipelines.md is behind the tests: run `pytest tests/pipelines -m '' --write-pipeline-table`"
    )


def test_the_page_has_every_refused_pipeline():
    assert not [name for name in REFUSED if f"`{name}`" not in pipeline_table.PAGE.read_text(encoding="utf-8")]


@pytest.mark.parametrize("case", [case for case in CASES if case.without], ids=str)
def test_what_is_not_asked_of_a_pipeline_does_not_work_without_an_adapter_either(case):
    if case.without == GUESS_IGNORED:
        assert np.array_equal(case.run(case.build(), guess_mode=True), case.plain())
    else:
        assert case.without == GUESS_FAILS
        with pytest.raises(RuntimeError):
            case.run(case.build(), guess_mode=True)
