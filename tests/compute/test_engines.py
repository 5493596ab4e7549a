"""What ranks of torch.distributed say to each other: bytes that hold values only, at a place that nobody else reaches."""

import math
import os
import pickle
import socket
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import BIN, call

from paraloss.compute.directions.principal import Projection
from paraloss.compute.ranks.board import Board, Place, _first_host, find_place
from paraloss.compute.ranks.distributed import StoreTransport, TorchWorld, wait_for
from paraloss.compute.ranks.ending import RankLost, Report
from paraloss.compute.ranks.wire import decode, encode
from paraloss.errors import InputError
from paraloss.surface import Surface, read_surface


def test_values_travel_to_the_bit():
    values = [
        None,
        True,
        3,
        0.1,
        -0.0,
        math.inf,
        "ä'\n",
        (1, [2.5, {"a": (), 3: {1, 2}}]),
        np.float64(0.1),
        np.int32(7),
        10**30,
    ]
    for value in values:
        back = decode(encode(value))
        assert back == value and type(back) is type(value)
    assert math.isnan(decode(encode(math.nan)))
    for array in (
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.zeros((0, 4)),
        np.array(5, np.uint8),
        np.array([True, False]),
    ):
        back = decode(encode({"a": [array, array]}))["a"][1]
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype and back.shape == array.shape and back.flags.writeable
    assert torch.equal(decode(encode(torch.ones(2, 3))), torch.ones(2, 3))
    assert decode(encode([Report(2, lost="gone", missing=3), None])) == [Report(2, lost="gone", missing=3), None]


def test_classes_that_travel_are_those_that_are_named():
    surface = Surface(x=np.arange(3.0), y=None, metrics={"train_loss": np.ones(3)}, status=np.ones(3, np.uint8))
    np.testing.assert_array_equal(decode(encode(surface)).metric(), np.ones(3))
    fields = {"directions": [{"w": torch.ones(2)}], "x": np.ones(1), "y": np.ones(1), "residual": np.ones(1)}
    projection = Projection(**fields, explained=(0.5, 0.2), products=np.eye(1), gram=np.eye(2))
    assert decode(encode(projection)).explained == (0.5, 0.2)
    for value in (Path("a"), object(), np.array([object()]), lambda: 1):
        with pytest.raises(TypeError, match="cannot be sent"):
            encode(value)


def test_bytes_that_no_rank_sends_are_refused_and_run_nothing(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    good = encode({"a": np.arange(4.0), "b": [1, Report(1)]})
    head = len(good) - 32
    bad = [b"", b"\0" * 8, pickle.dumps(Trap()), good[:20], good[:-1], (2**60).to_bytes(8, "little") + good[8:]]
    for text in (
        '["class", "Path", ["dict"]]',
        '["os.system", 1]',
        '["array", "O", [1]]',
        '["array", "<f8", [-1]]',
        '["array"]',
    ):
        bad.append(len(text).to_bytes(8, "little") + text.encode() + good[head:])
    bad.append((5000).to_bytes(8, "little") + b"[" * 5000)
    for data in bad:
        with pytest.raises(InputError, match="no rank of Paraloss sends"):
            decode(data)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def place():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Place("127.0.0.1", port, kept_by_rank_0=True, shared=False)


def test_the_store_listens_on_the_address_it_was_given_alone(place):
    board = Board(place, keeps=True)
    with socket.socket() as elsewhere:
        elsewhere.settimeout(5)
        assert elsewhere.connect_ex(("127.0.0.2", place.port)) != 0
    with pytest.raises(InputError, match="cannot listen at 127"):
        Board(place, keeps=True)
    value = bytes(range(256)) * 50_000  # more than the store takes at once
    board.put("a", value)
    assert wait_for(board.another(), "a", 0) == value  # a store may take its time
    assert board.look("b") is None
    board.remove("a")
    assert board.look("a") is None and board.add("n", 2) == 2


def test_threads_as_ranks_share_a_queue_and_a_lost_one_costs_its_own_points(place, monkeypatch):
    """Rank 1 dies with the point that it holds; ranks 0 and 2 do all others, and every point once."""
    monkeypatch.setattr("paraloss.compute.ranks.distributed._LOOK_S", 0.05)
    monkeypatch.setattr("paraloss.compute.ranks.queue._LOOK_S", 0.05)
    first = Board(place, keeps=True)
    worlds = [TorchWorld(board, range(3), rank, "w") for rank, board in enumerate((first, first.another(), first.another()))]
    recorded, raised, dead = [], {}, threading.Event()

    def evaluate(index):
        dead.wait(30)
        return [index + 0.5]

    def work(rank):
        world = worlds[rank]
        try:
            if rank == 1:
                StoreTransport(world._board, world._ranks, 1, set(), "w/1").take(2)
                world._board.put("lost/1", b"rank 1 was killed")
                dead.set()
            else:
                world.visit(range(40), evaluate, lambda *result: recorded.append(result), lambda: None)
        except RankLost as error:
            raised[rank] = str(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert raised == dict.fromkeys((0, 2), "rank 1 was killed: 2 points are missing; the same command computes them")
    assert len(recorded) == 38 == len({index for index, _ in recorded})
    assert all(values == [index + 0.5] for index, values in recorded)


def test_where_srun_starts_ranks_they_meet_without_a_variable(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0", "SLURM_NNODES": "1"}.items():
        monkeypatch.setenv(name, value)
    alone = find_place()
    assert alone.host == "127.0.0.1" and 15_000 <= alone.port < 27_000 and alone.kept_by_rank_0 and not alone.shared
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "gpu[07-12,20],login1")
    assert find_place().host == "gpu07"
    assert [_first_host(names) for names in ("a", "a,b", "n-1-[3,7]", "n[001-004].x")] == ["a", "a", "n-1-3", "n001.x"]
    monkeypatch.setenv("MASTER_PORT", "http")
    with pytest.raises(InputError, match="MASTER_PORT"):
        find_place()


@pytest.mark.slow
def test_srun_without_mpi_gives_the_surface_of_one_process(trained, tmp_path):
    """Two processes as srun starts them, with nothing but its variables."""
    command = [
        "compute",
        "--weights",
        trained / "final.pt",
        "--x=-1:1:5",
        "--y=-1:1:3",
        "--samples",
        "40",
        "--precision",
        "fp32",
    ]
    base = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "MASTER", "RANK", "WORLD"))}
    base |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NNODES": "1"}
    tasks = [
        subprocess.Popen(
            [BIN / "paraloss", *map(str, command), "-o", "s.h5"], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**base, "SLURM_PROCID": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [task.communicate(timeout=240) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert said[0][0] == "s.h5\n" and said[1] == ("", "")
    assert call(*command, "-o", tmp_path / "one.h5").returncode == 0
    for name, values in read_surface(tmp_path / "one.h5").metrics.items():
        np.testing.assert_allclose(read_surface(tmp_path / "s.h5").metrics[name], values, rtol=1e-6)
