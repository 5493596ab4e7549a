"""What is reported, where, and how often."""

import logging

import numpy as np
import pytest
from helpers import call, surface_of

from paraloss import compute_surface, progress
from paraloss.cli import main
from paraloss.log import logger, shown_on_stderr
from paraloss.progress import Progress, pauses


def test_a_python_program_sees_standard_log_records_and_nothing_on_its_streams(small_net, caplog, capfd):
    import torch

    torch.manual_seed(0)
    data = (torch.randn(5, 1, 8, 8), torch.arange(5))
    end = {name: tensor + 0.1 if tensor.is_floating_point() else tensor for name, tensor in small_net.state_dict().items()}
    with caplog.at_level(logging.INFO, "paraloss"):
        compute_surface(small_net, "cross_entropy", data, x=(-0.5, 1.5, 4), x_to=end)
    assert {record.name for record in caplog.records} == {"paraloss"}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("the x grid does not contain")
    assert capfd.readouterr() == ("", "")
    assert logger.handlers == []


def test_levels_of_the_command_line(capsys):
    for level, expected in (
        (logging.INFO, ["ready", "warning: careful"]),
        (logging.WARNING, ["warning: careful"]),
    ):
        with shown_on_stderr(level):
            logger.debug("detail")
            logger.info("ready")
            logger.warning("careful")
        assert capsys.readouterr().err.splitlines() == expected
    with shown_on_stderr(logging.DEBUG):
        logger.debug("detail")
        logger.info("100 % ready")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["detail", "100 % ready"]
    assert all(line[2] == line[5] == ":" for line in lines)


def test_other_ranks_show_warnings_with_their_number(capsys):
    with shown_on_stderr(logging.INFO, rank=3):
        logger.info("ready")
        logger.warning("careful")
    assert capsys.readouterr().err == "rank 3: warning: careful\n"


@pytest.mark.parametrize("where", ["before", "after"])
def test_quiet_and_verbose_stand_before_or_after_the_verb(where, tmp_path, capsys):
    surface_of(lambda x, y: x**2 + y**2).save(tmp_path / "s.h5")
    for flag, lines in (("--quiet", 0), ("--verbose", 1)):
        verb = ["info", str(tmp_path / "s.h5")]
        with pytest.raises(SystemExit) as end:
            main([flag, *verb] if where == "before" else [*verb, flag])
        assert end.value.code == 0
        captured = capsys.readouterr()
        assert "train_loss" in captured.out
        assert captured.err.count("paraloss 0.") == lines
    assert logger.handlers == []


def test_quiet_hides_what_is_going_on_but_neither_results_nor_errors(trained, tmp_path):
    arguments = ["compute", "--weights", trained / "final.pt", "--curve", "--x=-1:1:3", "--samples", "20"]
    opening = ["a curve of 3 points", "model: resnet20", "samples: train 20 of", "device: cpu"]
    for flags, lines in ([], opening), ([], [*opening, "resuming: 3 of 3 points are finished already"]), (["--quiet"], []):
        done = call(*arguments, "-o", tmp_path / "a.h5", *flags)
        assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "a.h5"))
        found = done.stderr.splitlines()
        assert len(found) == len(lines) and all(here.startswith(start) for here, start in zip(found, lines, strict=True))
    assert call("--quiet", "info", tmp_path / "gone.h5").stderr.startswith("paraloss: ")
    both = call("--quiet", "info", tmp_path / "a.h5", "--verbose")
    assert (both.returncode, both.stderr) == (2, "paraloss: --quiet and --verbose exclude each other\n")


def test_a_value_that_looks_like_a_flag_is_left_to_the_verb(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["info", "--", "--quiet"])
    assert end.value.code == 2
    assert "--quiet" in capsys.readouterr().err


def test_lines_in_a_log_become_rare(monkeypatch, caplog):
    """A clock that a test moves: a job of eight hours, one item per second."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    times = []
    monkeypatch.setattr(progress.logger, "info", lambda line: times.append(now[0]))
    bar = Progress("computing", 8 * 3600)
    for _ in range(8 * 3600):
        now[0] += 1
        bar.advance()
    gaps = np.diff([0, *times])
    assert set(gaps[:12]) == {5.0}
    assert set(gaps[12:41]) == {60.0}
    assert set(gaps[41:]) == {300.0}
    assert times[40] == 30 * 60
    steps = pauses()
    assert [next(steps) for _ in range(3)] == [5.0, 5.0, 5.0]
