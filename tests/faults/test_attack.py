"""A lean part of each stage of ``make attack``; other seeds than those of the whole."""

import damaged_files
import option_combinations
import pytest
import traps

pytestmark = pytest.mark.slow


def test_damaged_files_of_every_format_are_read_or_refused_by_every_verb():
    tallies = damaged_files.everything(130, seed=100, report=0)
    assert [line for tally in tallies.values() for line in tally.harmed] == []
    assert {".h5", ".pt", ".t7", ".npz", ".safetensors", ".vts", ".vtp", ".vtkhdf", ".pvsm"} <= set(tallies)
    assert sum(tally.refused for tally in tallies.values()) > 40
    assert sum(tally.done for tally in tallies.values()) > 20


def test_combinations_of_options_end_with_whole_files_or_one_line_and_none():
    tallies = option_combinations.everything(55, seed=100, report=0)
    assert [line for tally in tallies.values() for line in tally.harmed] == []
    assert set(tallies) == set(option_combinations.BASES)
    assert sum(tally.done for tally in tallies.values()) > 20
    assert sum(tally.refused for tally in tallies.values()) > 20


def test_no_file_runs_a_program_under_any_verb():
    tallies = traps.everything()
    assert [line for tally in tallies.values() for line in tally.harmed] == []
    assert sum(tally.cases for tally in tallies.values()) > 150
