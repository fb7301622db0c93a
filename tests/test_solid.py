"""Threads, forks, signals and panics: nothing kills the process, and the answer stays the same."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ferroformer
from ferroformer import BertConfig, BertModel, _native
from ferroformer.errors import InternalError


@pytest.fixture(scope="module")
def model():
    config = BertConfig(vocab_size=50, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    return BertModel(config, seed=3)


def batch(seed):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 9)), int(rng.integers(1, 90)))
    mask = (rng.random(shape) < 0.8).astype(np.int64)
    return {"input_ids": rng.integers(0, 50, shape), "attention_mask": mask}


def bits(model, seed):
    output = model(**batch(seed))
    return output.last_hidden_state.tobytes() + output.pooler_output.tobytes()


def test_many_threads_give_the_bits_of_one(model):
    alone = [bits(model, seed) for seed in range(40)]
    with ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            assert list(pool.map(lambda seed: bits(model, seed), range(40))) == alone


@pytest.mark.numbers
def test_any_number_of_threads_gives_the_same_bits(model):
    before = ferroformer.get_num_threads()
    try:
        seen = set()
        for count in (1, 2, 3, 7):
            ferroformer.set_num_threads(count)
            assert ferroformer.get_num_threads() == count
            seen.add(b"".join(bits(model, seed) for seed in range(20)))
        assert len(seen) == 1
    finally:
        ferroformer.set_num_threads(before)


@pytest.mark.parametrize("count", [0, -1, 10**9, 2**62])
def test_impossible_numbers_of_threads_are_refused(count):
    with pytest.raises(ValueError, match="num_threads"):
        ferroformer.set_num_threads(count)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_computes_the_same(model):
    expected = [bits(model, seed) for seed in range(10)]
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if [bits(model, seed) for seed in range(10)] == expected else 1)
        deadline = time.monotonic() + 60
        while (status := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                pytest.fail("the child hangs")
            time.sleep(0.01)
        assert os.waitstatus_to_exitcode(status[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_in_the_middle_of_calls(model):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            bits(model, 1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    try:
        test_a_forked_child_computes_the_same(model)
    finally:
        stop.set()
        for worker in workers:
            worker.join()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_stops_a_long_call_and_the_next_one_works():
    code = """
        import os, signal, threading, time
        import numpy as np
        from ferroformer import BertConfig, BertModel

        config = BertConfig(vocab_size=50, hidden_size=256, num_hidden_layers=8, num_attention_heads=4)
        model = BertModel(config)
        ids = np.ones((4000, 128), np.int64)  # minutes of work
        small = model(ids[:1]).last_hidden_state
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        try:
            model(ids)
        except KeyboardInterrupt:
            print("stopped after", time.monotonic() - start)
        assert (model(ids[:1]).last_hidden_state == small).all()
        print("and on")
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("stopped after") and "and on" in result.stdout


@pytest.mark.parametrize("tasks", [1, 2, 1000])
def test_a_panic_becomes_an_exception(model, tasks, capfd):
    before = bits(model, 5)
    for _ in range(5):
        with pytest.raises(InternalError, match="bug in ferroformer") as raised:
            _native._panic(tasks)
        assert isinstance(raised.value, RuntimeError)
    assert bits(model, 5) == before
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("isa, message", [("avx9", "not an instruction set"), ("neon64", "expected one of")])
def test_an_unknown_instruction_set_is_an_error(isa, message):
    code = "from ferroformer import BertConfig, BertModel; BertModel(BertConfig(num_hidden_layers=1))"
    environment = {**os.environ, "FERROFORMER_ISA": isa}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 1 and message in result.stderr and "FERROFORMER_ISA" in result.stderr


@pytest.mark.parametrize("value", ["0", "many", "-3"])
def test_a_senseless_thread_variable_is_an_error(value):
    code = "import ferroformer; ferroformer.get_num_threads()"
    environment = {**os.environ, "FERROFORMER_NUM_THREADS": value}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 1 and "FERROFORMER_NUM_THREADS" in result.stderr


def test_importing_is_light():
    code = """
        import sys, time
        start = time.perf_counter()
        import ferroformer
        print(time.perf_counter() - start)
        assert "numpy" not in sys.modules and "huggingface_hub" not in sys.modules and "socket" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
