"""How accelerators that are missing, broken or simulated are reported; and the child process that probes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetl.core import child
from edgetl.core.errors import EXIT_MISSING
from edgetl.formats.read.tflite_file import read_tflite
from edgetl.runtimes import PlacementError, litert, litert_accelerated, litert_probe, open_session

NO_GPU = """\
INFO: [delegate_webgpu.cc:342] Create WebGPU environment (use_low_power=0, enable_host_mapped_pointer=1)
ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found
E0000 00:00:1795304295.080904    2640 delegate_webgpu.cc:736] Failed to get or create delegate WebGPU environment
"""
TWO_GPUS = """\
I0000 00:00:1795304531.550048    3342 environment.cc:532] Selected adapter: NVIDIA GeForce RTX 4090, arch=lovelace, vendor=nvidia, backend=Vulkan, adapterType=discrete GPU
INFO: [delegate_webgpu.cc:363] Created a WebGPU environment.
"""
SWIFTSHADER = "Selected adapter: SwiftShader Device (Subzero), arch=swiftshader, vendor=google, backend=Vulkan, adapterType=CPU / Software\n"
REFUSED = """\
ERROR: Following operations are not supported by GPU delegate:
MATRIX_DIAG: Operation is not supported.
SUM: Unknown layout.
3 operations will run on the GPU, and the remaining 4 operations will run on the CPU.
"""


@pytest.fixture
def replies(monkeypatch):
    """set(reply): the reply of the child process."""
    litert_accelerated._asked.cache_clear()
    yield lambda reply: monkeypatch.setattr(child, "ask", lambda *_, **__: reply)
    litert_accelerated._asked.cache_clear()


def refused(chatter: str, *, why: str = "LiteRT gave no reason", load_errors: tuple[str, ...] = ()) -> child.Reply:
    return child.Reply({"opened": False, "why": why, "load_errors": list(load_errors)}, "", chatter)


OPENED = {"opened": True, "why": "", "load_errors": []}


def test_the_smallest_model_is_one_relu_on_four_floats():
    (op,) = read_tflite(litert_probe.SMALLEST_MODEL).ops
    assert op.type == "RELU"
    assert len(litert_probe._INPUT) == 4


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (refused(NO_GPU, load_errors=("libvulkan.so.1 cannot be loaded",)), "no Vulkan loader (libvulkan.so.1"),
        (refused(NO_GPU), "for a GPU that LiteRT's WebGPU supports"),
        (
            refused(SWIFTSHADER, why="it computes a wrong result for a ReLU"),
            "does not work on SwiftShader Device (Subzero): it comp",
        ),
        (
            child.Reply(None, "it crashed (SIGSEGV)", ""),
            "does not work on the adapter found here: it crashed (SIGSEGV)",
        ),
        (child.Reply(None, "not done after 60 s", ""), "not done after 60 s"),
    ],
    ids=["no loader", "no driver", "a wrong answer", "a crash", "a hang"],
)
def test_a_gpu_that_is_not_ready_is_explained_in_one_line(reply, expected, replies):
    replies(reply)
    reason = litert_accelerated.unavailable("litert-gpu")
    assert expected in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("chatter", "device", "simulated"),
    [
        (TWO_GPUS, "NVIDIA GeForce RTX 4090", False),
        (SWIFTSHADER, "SwiftShader Device (Subzero): a CPU simulating a GPU, its latency means nothing", True),
        ("another LiteRT's words\n", "a WebGPU adapter that does not report its name", False),
    ],
    ids=["a GPU", "a simulated one", "an unknown form"],
)
def test_a_ready_gpu_has_the_name_of_the_chosen_adapter(chatter, device, simulated, replies):
    replies(child.Reply(OPENED, "", chatter))
    assert litert_accelerated.unavailable("litert-gpu") is None
    assert litert_accelerated.device("litert-gpu") == device
    assert litert_accelerated.simulated("litert-gpu") is simulated


def test_refused_ops_and_the_split_are_read_from_litert_s_log(replies):
    replies(refused(REFUSED))
    found = litert_probe.ask_accelerator("gpu", Path("net.tflite"))
    assert found.refused_ops == ("MATRIX_DIAG: Operation is not supported.", "SUM: Unknown layout.")
    assert found.split == (3, 4)


def test_without_an_npu_a_session_is_refused_and_a_fallback_is_all_cpu(tiny_net, tmp_path):
    """For NPU | CPU, LiteRT reports a fully accelerated model on such a machine: XNNPACK runs it."""
    if litert_accelerated.unavailable("litert-npu") is None:
        pytest.skip("this machine has an NPU")
    model = tiny_net(tmp_path) / "net.tflite"
    with pytest.raises(PlacementError, match="litert-npu was requested, but would not run on the NPU") as refusal:
        litert_accelerated.open_session(model, threads=1, backend="litert-npu")
    assert refusal.value.exit_code == EXIT_MISSING
    session = open_session(model, "litert-npu", threads=1, allow_fallback=True)
    placement = session.placement()
    assert placement.share_of_ops("npu") == 0
    assert placement.share_of_macs("cpu") == 1
    images = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 3)).astype(np.float32)
    np.testing.assert_array_equal(session.run(images), litert.open_session(model, threads=1).run(images))
    session.close()


@pytest.mark.parametrize(
    ("split", "ops", "unknown", "share"),
    [((3, 4), {"WebGPU": 3, "LiteRT on the CPU": 4}, 0, 3 / 7), ((3, 9), {}, 7, 0), (None, {}, 7, 0)],
    ids=["adds up", "of other ops", "not reported"],
)
def test_a_split_counts_only_if_it_adds_up_to_the_ops_of_the_file(split, ops, unknown, share):
    session = litert_accelerated.CompiledSession.__new__(litert_accelerated.CompiledSession)
    session._ops, session._kind = 7, "gpu"
    placement = session._partly(split)
    assert (placement.ops, placement.unknown) == (ops, unknown)
    assert placement.share_of_ops("gpu") == share
    assert placement.to_json()["macs"] is None


ANSWER = """
import os, signal, sys, time
def answer(given, what):
    os.write(1, b"chatter")
    if what == "crash": os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang": time.sleep(60)
    if what == "fail": raise RuntimeError("no such\\ndevice")
    if what == "bug": raise KeyError("tensor")
    return {"given": len(given)}
"""


@pytest.mark.parametrize(
    ("what", "facts", "why"),
    [
        ("well", {"given": 3}, ""),
        ("fail", None, "no such device"),
        ("crash", None, "it crashed (SIGSEGV)"),
        ("hang", None, "not done after 1 s"),
        ("bug", None, "KeyError: 'tensor'"),
    ],
)
def test_every_end_of_a_child_process_gives_a_reply(what, facts, why, tmp_path, monkeypatch):
    (tmp_path / "question.py").write_text(ANSWER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    reply = child.ask("question", what, given=b"abc", timeout_s=1 if what == "hang" else 60)
    assert (reply.facts, reply.why) == (facts, why)
    # On a busy machine one second may pass before the child has started.
    assert what == "hang" or "chatter" in reply.chatter
